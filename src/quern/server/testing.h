// SPDX-License-Identifier: Apache-2.0
// For tests only: a model that answers as it is told, and a server without sockets and threads around it.
#pragma once

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quern/engine/stop_matcher.h"
#include "quern/gguf/file.h"
#include "quern/gguf/writer.h"
#include "quern/server/fill_in.h"
#include "quern/server/router.h"
#include "quern/server/services.h"
#include "quern/tokenizer/vocab.h"

namespace quern::testing {

/// A byte-level vocabulary: ids 0..255 are the bytes, then these control tokens.
inline constexpr std::string_view kControlTokens[] = {"<|endoftext|>",  "<|im_start|>",   "<|im_end|>",
                                                      "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};

inline std::unique_ptr<Tokenizer> byte_tokenizer(bool fills_in = true) {
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types(256, 1);
  for (int b = 0; b < 256; ++b) tokens.push_back(spelling_of_byte(static_cast<uint8_t>(b)));
  for (const std::string_view text : kControlTokens) {
    if (!fills_in && text.starts_with("<|fim")) continue;
    tokens.emplace_back(text);
    types.push_back(3);
  }
  gguf::Writer writer;
  writer.set("tokenizer.ggml.model", std::string("gpt2"));
  writer.set("tokenizer.ggml.pre", std::string("gpt-2"));
  writer.set("tokenizer.ggml.tokens", std::span(tokens));
  writer.set("tokenizer.ggml.token_type", std::span(types));
  writer.set("tokenizer.ggml.merges", std::span(merges));
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{258});
  const auto bytes = writer.bytes();
  QUERN_CHECK(bytes.has_value(), "test vocabulary");
  const auto file = gguf::File::parse(*bytes);
  QUERN_CHECK(file.has_value(), "test vocabulary");
  auto tokenizer = Tokenizer::from_gguf(*file);
  QUERN_CHECK(tokenizer.has_value(), tokenizer ? "" : tokenizer.error().message.c_str());
  return *std::move(tokenizer);
}

/// Writes part `number` (from 0) of `parts` of a model in one GGUF file; the tensors take turns.
inline Status write_split_part(const gguf::File& whole, size_t number, size_t parts,
                               const std::filesystem::path& path) {
  gguf::Writer writer;
  if (number == 0)
    for (const gguf::Entry& entry : whole.metadata()) writer.copy(entry);
  writer.set("split.no", static_cast<uint32_t>(number)).set("split.count", static_cast<uint32_t>(parts));
  writer.set("split.tensors.count", static_cast<int32_t>(whole.tensors().size()));
  for (size_t i = number; i < whole.tensors().size(); i += parts) {
    const gguf::Tensor& tensor = whole.tensors()[i];
    writer.add(tensor.name, tensor.view.shape, *tensor.view.type,
               std::vector<std::byte>(tensor.view.data.begin(), tensor.view.data.end()));
  }
  return writer.write(path);
}

inline constexpr std::string_view kTestTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking %}"
    "<think>\n{% endif %}{% endif %}";

/// Writes `answer(request)` byte by byte, then its end token. Honours max_tokens and stops with the engine's own parts.
class FakeModel : public ServedModel {
 public:
  explicit FakeModel(std::string name = "test-model", bool fills_in = true)
      : name_(std::move(name)), tokenizer_(byte_tokenizer(fills_in)), template_(compiled(kTestTemplate)) {
    info_.architecture = "test";
    info_.n_vocab = tokenizer_->size();
    info_.n_embd = 8;
    info_.context_length = 4096;
    eos_text_ = "<|im_end|>";
  }

  // What the tests set.
  std::function<std::string(const Request&)> answer = [](const Request&) { return std::string("Hello world"); };
  int64_t cached_tokens = 0;
  int64_t context = 1000;
  bool at_once = true;  ///< requests run within `submit`; else when `step` and `run` are called
  std::optional<Error> error;
  bool queue_full = false;
  bool has_template = true;
  GenerationDefaults advice;

  // What the tests look at.
  std::vector<Request> requests;
  std::vector<uint64_t> cancelled;

  const std::string& name() const override { return name_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  Result<const ChatTemplate*> chat_template() const override { return has_template ? &template_ : nullptr; }
  const std::string& bos_text() const override { return bos_text_; }
  const std::string& eos_text() const override { return eos_text_; }
  const GenerationDefaults& defaults() const override { return advice; }
  const ModelInfo& info() const override { return info_; }
  int64_t context_tokens() const override { return context; }
  bool full() const override { return queue_full; }

  uint64_t submit(Request request, std::shared_ptr<RequestListener> listener) override {
    requests.push_back(request);
    jobs_.push_back(std::make_unique<Job>(*this, std::move(request), std::move(listener)));
    const uint64_t id = jobs_.size();
    if (at_once) run(id);
    return id;
  }
  void cancel(uint64_t id) override {
    cancelled.push_back(id);
    Job& job = *jobs_[id - 1];
    if (job.ended) return;
    job.end({.finish = FinishReason::cancelled});
  }

  /// Nothing was ever asked. Not while a request runs.
  void forget() {
    requests.clear();
    cancelled.clear();
    std::exchange(jobs_, {}).clear();
  }

  /// One event of a request: its prompt, a token, or its end. False when it has ended.
  bool step(uint64_t id) { return jobs_[id - 1]->step(); }
  void run(uint64_t id) {
    while (step(id)) {
    }
  }

 private:
  struct Job {
    Job(FakeModel& m, Request r, std::shared_ptr<RequestListener> l)
        : model(m), request(std::move(r)), listener(std::move(l)), decoder(*m.tokenizer_), stops(request.stops) {
      if (request.embedding) return;
      ids = model.tokenizer_->encode(model.answer(request), {});
      const auto n = static_cast<int64_t>(request.prompt.size());
      const int64_t room = model.context - n;
      limit = request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
    }

    bool step() {
      if (ended) return false;
      if (model.error) return end({.error = model.error}), true;
      if (!read) {
        read = true;
        const auto n = static_cast<int64_t>(request.prompt.size());
        listener->on_prompt(n, n);
      } else if (request.embedding) {
        std::vector<float> vector(8, 0.0F);
        vector[request.prompt.size() % 8] = 0.6F;
        vector[(request.prompt.size() + 1) % 8] = 0.8F;
        end({.finish = FinishReason::stop, .embedding = std::move(vector)});
      } else if (stops.stopped()) {
        end({.finish = FinishReason::stop, .stop = stop_found()});
      } else if (at == limit) {
        end({.finish = FinishReason::length});
      } else if (at == static_cast<int64_t>(ids.size())) {
        end({.finish = FinishReason::stop});
      } else {
        const TokenInfo info = info_of(ids[static_cast<size_t>(at++)]);
        const std::string text(decoder.push(info.id));
        whole += text;
        listener->on_token(info, stops.push(text));
      }
      return true;
    }

    TokenInfo info_of(TokenId id) const {
      TokenInfo info{.id = id};
      if (request.top_logprobs < 0) return info;
      info.logprob = -0.5;
      for (int i = 0; i < request.top_logprobs; ++i)
        info.top.push_back({i == 0 ? id : static_cast<TokenId>((id + i) % 256), -0.5 - i});
      return info;
    }

    std::string stop_found() const {
      for (const std::string& stop : request.stops)
        if (whole.find(stop) != whole.npos) return stop;
      return {};
    }

    void end(RequestEnd what) {
      ended = true;
      std::string rest;
      if (!stops.stopped() && !what.error && !request.embedding) {
        rest = stops.push(decoder.flush());
        rest += stops.flush();
      }
      what.usage.prompt_tokens = static_cast<int64_t>(request.prompt.size());
      what.usage.cached_tokens = std::min(model.cached_tokens, what.usage.prompt_tokens - 1);
      what.usage.completion_tokens = at;
      if (request.prompt_logprobs)
        for (const TokenId id : request.prompt) {
          what.prompt_logprobs.push_back(info_of(id));
          if (what.prompt_logprobs.size() == 1) what.prompt_logprobs[0].logprob = std::nan("");
        }
      std::exchange(listener, nullptr)->on_end(what, rest);  // whoever listens owns this model: let go
    }

    FakeModel& model;
    Request request;
    std::shared_ptr<RequestListener> listener;
    StreamDecoder decoder;
    StopMatcher stops;
    std::vector<TokenId> ids;
    int64_t limit = 0, at = 0;
    std::string whole;
    bool read = false, ended = false;
  };

  static ChatTemplate compiled(std::string_view source) {
    auto compiled = ChatTemplate::compile(source);
    QUERN_CHECK(compiled.has_value(), "test template");
    return *std::move(compiled);
  }

  std::string name_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ChatTemplate template_;
  std::string bos_text_, eos_text_;
  ModelInfo info_;
  std::vector<std::unique_ptr<Job>> jobs_;
};

/// Tasks in the order they came, on the caller's thread.
class TestLoop {
 public:
  Executors executors() {
    return {.compute = [this](std::function<void()> task) { tasks_.push_back(std::move(task)); },
            .read = [this](std::function<void()> task) { tasks_.push_back(std::move(task)); },
            .serve = [this](std::function<void()> task) { tasks_.push_back(std::move(task)); },
            .later = [this](int, std::function<void()> task) { later_.push_back(std::move(task)); }};
  }
  void run() {
    while (!tasks_.empty()) {
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }
  /// Runs what waits for its time.
  void pass_time() {
    for (const auto& task : std::exchange(later_, {})) task();
    run();
  }

 private:
  std::deque<std::function<void()>> tasks_;
  std::vector<std::function<void()>> later_;
};

/// Keeps what is written.
class TestWriter : public ResponseWriter {
 public:
  void respond(HttpResponse r) override { begin(std::move(r)), ended = true; }
  void begin(HttpResponse r) override {
    QUERN_CHECK(!begun, "an answer begins twice");
    begun = true;
    pieces.push_back(r.body);
    response = std::move(r);
  }
  void write(std::string piece) override {
    QUERN_CHECK(begun && !ended, "a piece outside an answer");
    pieces.push_back(std::move(piece));
  }
  void end() override { ended = true; }
  void on_gone(std::function<void()> callback) override { gone = std::move(callback); }

  std::string text() const {
    std::string out;
    for (const std::string& piece : pieces) out += piece;
    return out;
  }
  Json json() const { return Json::parse(text()).has_value() ? *Json::parse(text()) : Json(); }
  /// Of server-sent events: (name, data).
  std::vector<std::pair<std::string, std::string>> events() const {
    std::vector<std::pair<std::string, std::string>> out;
    const std::string all = text();
    for (size_t at = 0, end = 0; (end = all.find("\n\n", at)) != all.npos; at = end + 2) {
      std::string frame = all.substr(at, end - at), name;
      if (frame.starts_with("event: ")) {
        name = frame.substr(7, frame.find('\n') - 7);
        frame.erase(0, frame.find('\n') + 1);
      }
      out.emplace_back(name, frame.starts_with("data: ") ? frame.substr(6) : frame);
    }
    return out;
  }

  HttpResponse response;
  std::vector<std::string> pieces;
  bool begun = false, ended = false;
  std::function<void()> gone;
};

class FakeHost : public ModelHost {
 public:
  explicit FakeHost(std::shared_ptr<FakeModel> model) : model_(std::move(model)) {}
  std::vector<ModelCard> models() override { return {{.name = model_->name(), .aliases = {"alias"}, .loaded = there}}; }
  ModelDetails details(const ModelCard&) override {
    ModelDetails out{.created = 1700000000, .file_bytes = 1000};
    if (!readable) return out;
    const auto has_token = [&](std::string_view token) { return model_->tokenizer().find(token).has_value(); };
    ModelFacts facts{.info = model_->info(), .main_type = "Q4_K", .fills_holes = fills_holes(has_token)};
    facts.info.parameters = 1234;
    facts.info.n_layer = 2;
    if (model_->has_template) facts.chat_template = kTestTemplate;
    out.facts = std::make_shared<const ModelFacts>(std::move(facts));
    out.context_tokens = model_->context;
    return out;
  }
  std::shared_ptr<ServedModel> loaded_model() override { return there ? model_ : nullptr; }
  Result<std::shared_ptr<ServedModel>> model(std::string_view name) override {
    asked = name;
    return std::static_pointer_cast<ServedModel>(model_);
  }
  bool load_later(std::string_view name, Loaded then) override {
    if (there) return false;
    asked = name;
    waiting.push_back(std::move(then));
    return true;
  }
  /// What was to be loaded is there, or is not.
  void load(const std::optional<Error>& error = {}) {
    there = !error;
    for (const auto& then : std::exchange(waiting, {})) error ? then(*error) : then(model(asked));
  }
  std::optional<Json> prefix_misses(std::string_view) override { return std::nullopt; }
  std::string metrics() override {
    if (fails) fails();
    return "# TYPE quern_requests_running gauge\nquern_requests_running 0\n";
  }
  bool healthy() override { return true; }

  std::string asked;     ///< the name that a model was last asked for by
  bool there = true;     ///< in memory; else who needs it waits for `load`
  bool readable = true;  ///< its files, by who asks for details
  std::vector<Loaded> waiting;
  std::function<void()> fails;  ///< throws what goes wrong in `metrics`

 private:
  std::shared_ptr<FakeModel> model_;
};

class FakeStore : public ResponseStore {
 public:
  void put(std::string_view owner, std::string_view id, std::string record) override {
    if (records_.size() >= 1000) records_.clear();  // fuzzing goes on for hours
    records_[{std::string(owner), std::string(id)}] = *Json::parse(record);
  }
  std::optional<Json> get(std::string_view owner, std::string_view id) override {
    const auto it = records_.find({std::string(owner), std::string(id)});
    return it == records_.end() ? std::nullopt : std::optional(it->second);
  }
  bool remove(std::string_view owner, std::string_view id) override {
    return records_.erase({std::string(owner), std::string(id)}) > 0;
  }

 private:
  std::map<std::pair<std::string, std::string>, Json> records_;
};

/// A server around one fake model: a request goes in, its whole answer comes out.
class TestServer {
 public:
  explicit TestServer(bool fills_in = true) : model(std::make_shared<FakeModel>("test-model", fills_in)), host(model) {}
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;
  ~TestServer() { model->forget(); }  // those who still listen own it

  /// Leaves what waits for a model that does not answer at once.
  std::shared_ptr<TestWriter> call(std::string_view method, std::string_view path, std::string body = "",
                                   std::string owner = "") {
    auto writer = std::make_shared<TestWriter>();
    HttpRequest request{.method = std::string(method), .path = std::string(path), .body = std::move(body)};
    request.headers.emplace_back("content-type", "application/json");
    route(std::move(request), std::move(owner), writer, services);
    loop.run();
    return writer;
  }
  std::shared_ptr<TestWriter> post(std::string_view path, std::string body) {
    return call("POST", path, std::move(body));
  }

  TestLoop loop;
  std::shared_ptr<FakeModel> model;
  FakeHost host;
  FakeStore store;
  Services services{.models = host, .responses = store, .executors = loop.executors(), .version = "0.0.0"};
};

}  // namespace quern::testing
