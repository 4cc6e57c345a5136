// SPDX-License-Identifier: Apache-2.0
// Bodies as large as they may be, of the smallest items that a list or an object takes: what is done with each item is
// done some hundred thousand times, so that whatever looks at the items before takes minutes.
#include <gtest/gtest.h>

#include <ctime>

#include "quern/base/sanitized.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using testing::TestServer;

constexpr size_t kBodyBytes = kSanitized ? 1 << 18 : 1 << 20;
constexpr double kMostSeconds = 10;  // with sanitizers too; what is done anew for every item before takes minutes

/// `before`, as many of `item` as fit (a '#' in it is their number), `after`.
std::string filled(std::string_view before, std::string_view item, std::string_view after) {
  std::string body(before);
  body.reserve(kBodyBytes);
  const size_t hole = item.find('#');
  for (size_t i = 0; body.size() + item.size() + 10 + after.size() < kBodyBytes; ++i) {
    if (i > 0) body += ',';
    body += item.substr(0, hole);
    if (hole == item.npos) continue;
    body += std::to_string(i);
    body += item.substr(hole + 1);
  }
  body += after;
  return body;
}

struct Row {
  std::string_view path, before, item, after;
};

constexpr std::string_view kChat = "/v1/chat/completions", kResponses = "/v1/responses", kMessages = "/v1/messages",
                           kOllama = "/api/chat", kGenerate = "/api/generate";
constexpr std::string_view kHi = R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":4,)";
constexpr std::string_view kCalls = R"({"messages":[{"role":"assistant","tool_calls":[)";

constexpr Row kRows[] = {
    // OpenAI, chat
    {kChat, R"({"messages":[)", R"({"role":"user"})", "]}"},
    {kChat, R"({"messages":[)", "{}", "]}"},
    {kChat, R"({"messages":[)", R"({"role":"tool","content":""})", "]}"},
    {kChat, R"({"messages":[{"role":"user","content":[)", R"({"type":"text","text":""})", "]}]}"},
    {kChat, kCalls, R"({"function":{"name":""}})", "]}]}"},
    {kChat, kCalls, R"({"custom":{"name":""}})", "]}]}"},
    {kChat, kHi, R"("k#":1)", "}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"chat_template_kwargs":{)", R"("#":1)", "}}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"logit_bias":{)", R"("#":1)", "}}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"stop":[)", R"("")", "]}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"tools":[)", R"({"type":"x"})", "]}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"tools":[)", R"({"type":"custom","custom":{"name":"a"}})",
     "]}"},
    {kChat, R"({"messages":[{"role":"user","content":"Hi"}],"x":[)", "[]", "]}"},
    // OpenAI, continuations and embeddings
    {"/v1/completions", R"({"prompt":[)", "1", "]}"},
    {"/v1/completions", R"({"prompt":[)", R"("")", "]}"},
    {"/v1/completions", R"({"prompt":[)", "[1]", "]}"},
    {"/v1/embeddings", R"({"input":[)", R"("a")", "]}"},
    {"/v1/embeddings", R"({"input":[)", "1", "]}"},
    {"/completion", R"({"prompt":[)", "1", "]}"},
    {"/tokenize", R"({"content":")", "a", R"("})"},
    {"/detokenize", R"({"tokens":[)", "1", "]}"},
    {"/infill", R"({"input_prefix":"a","input_suffix":"b","input_extra":[)", R"({"text":""})", "]}"},
    // OpenAI, responses
    {kResponses, R"({"input":[)", R"({"type":"function_call","name":"f"})", "]}"},
    {kResponses, R"({"input":[)", R"({"type":"custom_tool_call","name":"f"})", "]}"},
    {kResponses, R"({"input":[)", R"({"type":"function_call_output"})", "]}"},
    {kResponses, R"({"input":[)", R"({"type":"reasoning"})", "]}"},
    {kResponses, R"({"input":[)", R"({"type":"reasoning","summary":[{"text":"a"}]})", "]}"},
    {kResponses, R"({"input":[)", R"({"type":"x"})", "]}"},
    {kResponses, R"({"input":[)", R"({"role":"user"})", "]}"},
    {kResponses, R"({"input":[)", R"({"role":"assistant"})", "]}"},
    {kResponses, R"({"input":[{"role":"user","content":[)", R"({"type":"text","text":""})", "]}]}"},
    {kResponses, R"({"input":"Hi","tools":[)", R"({"type":"x"})", "]}"},
    {kResponses, R"({"input":"Hi","tools":[)", R"({"type":"function","name":"f"})", "]}"},
    {kResponses, R"({"input":"Hi","include":[)", R"("")", "]}"},
    {kResponses, R"({"input":"Hi","reasoning":{)", R"("#":1)", "}}"},
    {kResponses, R"({"input":"Hi","metadata":{)", R"("#":1)", "}}"},
    {kResponses, R"({"input":"Hi","chat_template_kwargs":{)", R"("#":1)", "}}"},
    // Anthropic
    {kMessages, R"({"max_tokens":4,"messages":[)", R"({"role":"user"})", "]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"user","content":[)", R"({"type":"text","text":""})", "]}]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"assistant","content":[)",
     R"({"type":"tool_use","id":"a","name":"b"})", "]}]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"user","content":[)",
     R"({"type":"tool_result","tool_use_id":"a"})", "]}]}"},
    {kMessages,
     R"({"max_tokens":4,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[)",
     R"({"type":"image"})", "]}]}]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"user","content":"Hi"}],"system":[)",
     R"({"type":"text","text":""})", "]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"user","content":"Hi"}],"stop_sequences":[)", R"("")", "]}"},
    {kMessages, R"({"max_tokens":4,"messages":[{"role":"user","content":"Hi"}],"tools":[)",
     R"({"name":"a","type":"x"})", "]}"},
    {"/v1/messages/count_tokens", R"({"messages":[)", R"({"role":"user"})", "]}"},
    // Ollama
    {kOllama, R"({"stream":false,"messages":[)", R"({"role":"user"})", "]}"},
    {kOllama, R"({"stream":false,"messages":[)", R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}}]})",
     "]}"},
    {kOllama, R"({"stream":false,"messages":[{"role":"assistant","tool_calls":[)", R"({"function":{"name":"f"}})",
     "]}]}"},
    {kOllama, R"({"stream":false,"messages":[)",
     R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}}]},{"role":"tool","tool_call_id":"x"})", "]}"},
    {kOllama, R"({"stream":false,"messages":[)",
     R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}}]},{"role":"tool"})", "]}"},
    {kOllama, R"({"stream":false,"messages":[{"role":"user","content":"Hi"}],"tools":[)",
     R"({"function":{"name":"f"}})", "]}"},
    {kOllama, R"({"stream":false,"messages":[{"role":"user","content":"Hi"}],"options":{)", R"("#":1)", "}}"},
    {kOllama, R"({"stream":false,"messages":[{"role":"user","content":"Hi"}],"options":{"stop":[)", R"("")", "]}}"},
    {kGenerate, R"({"stream":false,"prompt":"Hi","images":[)", R"("")", "]}"},
    {kGenerate, R"({"stream":false,"prompt":"Hi","context":[)", "1", "]}"},
};

TEST(BigBodies, of_the_smallest_items_are_answered_soon) {
  for (const Row& row : kRows) {
    TestServer server;
    server.model->answer = [](const Request&) { return "Hi"; };
    const std::string body = filled(row.before, row.item, row.after);
    const std::clock_t start = std::clock();  // of the processor: neighbours do not count
    const auto writer = server.post(row.path, body);
    const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_TRUE(writer->ended) << row.path << " " << row.before << row.item;
    EXPECT_TRUE(writer->response.status == 200 || writer->response.status / 100 == 4 || writer->response.status == 501)
        << writer->response.status << " " << row.path << " " << row.before << row.item;
    EXPECT_LT(took, kMostSeconds) << row.path << " " << row.before << row.item;
  }
}

TEST(BigBodies, a_message_has_1024_calls_at_most) {
  for (const Row& row :
       std::initializer_list<Row>{{kChat, kCalls, R"({"function":{"name":"f"}})", "]}]}"},
                                  {kResponses, R"({"input":[)", R"({"type":"function_call","name":"f"})", "]}"},
                                  {kResponses, R"({"input":[)", R"({"type":"custom_tool_call","name":"f"})", "]}"},
                                  {kMessages, R"({"max_tokens":4,"messages":[{"role":"assistant","content":[)",
                                   R"({"type":"tool_use","id":"a","name":"b"})", "]}]}"},
                                  {kOllama, R"({"stream":false,"messages":[{"role":"assistant","tool_calls":[)",
                                   R"({"function":{"name":"f"}})", "]}]}"}}) {
    TestServer server;
    server.model->context = 1 << 20;
    std::string body = fmt::format("{}{}", row.before, row.item);
    for (int i = 1; i < 1024; ++i) body += fmt::format(",{}", row.item);
    EXPECT_EQ(server.post(row.path, fmt::format("{}{}", body, row.after))->response.status, 200) << row.item;
    const auto refused = server.post(row.path, fmt::format("{},{}{}", body, row.item, row.after));
    EXPECT_EQ(refused->response.status, 400) << row.item;
    EXPECT_NE(refused->text().find("at most 1024 calls"), std::string::npos) << refused->text();
  }
}

TEST(BigBodies, an_object_has_10000_keys_at_most) {
  TestServer server;
  std::string body(kHi);
  for (int i = 0; i < 9998; ++i) body += fmt::format("\"k{}\":1,", i);  // and the two that kHi has
  body.back() = '}';
  EXPECT_EQ(server.post(kChat, body)->response.status, 200);
  body.back() = ',';
  const auto refused = server.post(kChat, body + R"("one":1})");
  EXPECT_EQ(refused->response.status, 400);
  EXPECT_NE(refused->text().find("10000 keys"), std::string::npos) << refused->text();
}

}  // namespace
}  // namespace quern
