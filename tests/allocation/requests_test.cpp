// SPDX-License-Identifier: Apache-2.0
// Requests of all dialects to a server that finds no memory once: each allocation on their way fails in turn. The
// process goes on, the client gets an answer, an error or a closed connection, and the next request is served.
#include <gtest/gtest.h>

#include <new>
#include <string>
#include <string_view>

#include "quern/server/http_writer.h"
#include "quern/server/testing.h"
#include "tests/allocation/counted_new.h"

namespace quern::testing {
namespace {

/// As the threads of a server do: what a task throws ends that task alone.
class Loop {
 public:
  Executors executors() {
    const auto post = [this](std::function<void()> task) { tasks_.push_back(std::move(task)); };
    return {.compute = post, .read = post, .serve = post, .later = [this](int, std::function<void()> task) {
              later_.push_back(std::move(task));
            }};
  }
  void run() {
    while (!tasks_.empty()) {
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      attempt(task);
    }
  }
  /// Runs what waits for its time, too.
  void pass_time() {
    for (auto& task : std::exchange(later_, {})) attempt(task);
    run();
  }

 private:
  template <typename Task>
  static void attempt(Task& task) {
    try {
      task();
    } catch (const std::bad_alloc&) {
      // As it says.
    }
    task = nullptr;
  }
  std::deque<std::function<void()>> tasks_;
  std::vector<std::function<void()>> later_;
};

struct Case {
  std::string_view name, path, body;
};
const Case kCases[] = {
    {"chat", "/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":20})"},
    {"chat_stream", "/v1/chat/completions",
     R"({"messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}})"},
    {"chat_logprobs", "/v1/chat/completions",
     R"({"messages":[{"role":"user","content":"Hi"}],"n":2,"logprobs":true,"top_logprobs":2,"stop":["or"]})"},
    {"completions", "/v1/completions", R"({"prompt":["a","b"],"max_tokens":5,"echo":true,"logprobs":1})"},
    {"completions_stream", "/v1/completions", R"({"prompt":"a","max_tokens":5,"stream":true})"},
    {"responses", "/v1/responses", R"({"input":"Hi","instructions":"Be kind","max_output_tokens":20})"},
    {"responses_stream", "/v1/responses", R"({"input":[{"role":"user","content":"Hi"}],"stream":true})"},
    {"messages", "/v1/messages", R"({"max_tokens":20,"messages":[{"role":"user","content":"Hi"}]})"},
    {"messages_stream", "/v1/messages",
     R"({"max_tokens":20,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]})"},
    {"count_tokens", "/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"ollama_chat", "/api/chat", R"({"model":"test-model","messages":[{"role":"user","content":"Hi"}]})"},
    {"ollama_generate", "/api/generate", R"({"model":"test-model","prompt":"Hi","stream":false})"},
    {"completion", "/completion", R"({"prompt":"Hi","n_predict":5,"n_probs":2})"},
    {"infill", "/infill", R"({"input_prefix":"a","input_suffix":"b","n_predict":5})"},
    {"embeddings", "/v1/embeddings", R"({"input":["a","b"],"encoding_format":"base64"})"},
    {"tokenize", "/tokenize", R"({"content":"Hello"})"},
    {"wrong", "/v1/chat/completions", R"({"messages":[{"role":"user","content":7}]})"},
};

class Requests : public ::testing::TestWithParam<Case> {
 protected:
  ~Requests() override { server_.model->forget(); }

  /// The status of its answer; 0: the connection was closed. Counts what was allocated from here on.
  int ask(const Case& c) {
    const auto answer = std::make_shared<Answer>(
        [this](std::function<void()> task) { services_.executors.serve(std::move(task)); }, [] {});
    HttpRequest request{.method = "POST", .path = std::string(c.path), .body = std::string(c.body)};
    request.headers.emplace_back("content-type", "application/json");
    auto writer = make_writer(answer);
    begin_ = allocations();
    fail_allocation(fails_ < 0 ? -1 : begin_ + fails_);
    try {
      route(std::move(request), "owner", std::move(writer), services_);
    } catch (const std::bad_alloc&) {
      // The connection's own guard closes it.
    }
    loop_.run();
    for (int i = 0; i < 3; ++i) loop_.pass_time();
    fail_allocation(-1);
    made_ = allocations() - begin_;
    Answer::Taken taken = answer->take();
    EXPECT_TRUE(taken.ended) << "its client waits for ever";
    if (taken.dropped || !taken.head) return 0;
    const std::string text = taken.head->body + taken.pieces;
    if (taken.head->status >= 400) {
      EXPECT_NE(text.find("error"), std::string::npos) << text;
    } else {
      EXPECT_FALSE(text.empty());
    }
    return taken.head->status;
  }

  TestServer server_;
  Loop loop_;
  Services services_{
      .models = server_.host, .responses = server_.store, .executors = loop_.executors(), .version = "0.0.0"};
  int64_t fails_ = -1, begin_ = 0, made_ = 0;
};

TEST_P(Requests, survive_any_allocation_that_fails) {
  const Case& c = GetParam();
  const int good = ask(c);  // what is made once is there from here on
  ASSERT_EQ(good, c.name == "wrong" ? 400 : 200);
  ASSERT_EQ(ask(c), good);
  const int64_t most = made_;
  ASSERT_GT(most, 10);
  int errors = 0, closed = 0;
  for (int64_t n = 0; n < most; ++n) {
    fails_ = n;
    const int status = ask(c);
    EXPECT_TRUE(status == good || status == 0 || status == 503 || status == 500)
        << "allocation " << n << ": " << status;
    errors += status != good;
    closed += status == 0;
    fails_ = -1;
    ASSERT_EQ(ask(c), good) << "after allocation " << n;
    server_.model->forget();
    if (HasFailure()) break;
  }
  EXPECT_GT(errors, 0) << "nothing has failed";
  EXPECT_LT(closed, errors) << "nobody is told why";
}

INSTANTIATE_TEST_SUITE_P(Dialects, Requests, ::testing::ValuesIn(kCases),
                         [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace quern::testing
