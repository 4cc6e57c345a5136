// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <set>
#include <thread>

#include "quern/server/ollama_answer.h"
#include "quern/server/ollama_input.h"
#include "quern/server/ollama_models.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using ::quern::testing::TestServer;
using ::quern::testing::TestWriter;

std::vector<Json> lines_of(const TestWriter& writer) {
  std::vector<Json> out;
  const std::string text = writer.text();
  for (size_t from = 0, to = 0; (to = text.find('\n', from)) != text.npos; from = to + 1)
    out.push_back(*Json::parse(text.substr(from, to - from)));
  return out;
}

/// Without what differs from run to run.
std::string stripped(const Json& line) {
  Json out{Json::Object{}};
  for (const auto& [name, value] : line.object()) {
    if (name == "created_at") {
      EXPECT_EQ(value.string().size(), 30u) << value.string();
    } else if (name.ends_with("_duration")) {
      EXPECT_GE(value.integer(), 0) << name;
    } else {
      out.set(name, value);
    }
  }
  return out.dump();
}

constexpr std::string_view kChat = R"({"messages":[{"role":"user","content":"Hi"}])";

std::string chat_with(std::string_view members) { return std::string(kChat) + std::string(members) + "}"; }

TEST(Ollama, chat_streams_lines_unless_told_otherwise) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>hm</think>ok"; };
  const auto writer = server.post("/api/chat", chat_with(""));
  EXPECT_EQ(writer->response.content_type, "application/x-ndjson");
  const auto lines = lines_of(*writer);
  const auto read = std::to_string(server.model->requests[0].prompt.size());
  ASSERT_EQ(lines.size(), 3u) << writer->text();
  EXPECT_EQ(stripped(lines[0]), R"({"model":"test-model","message":{"role":"assistant","content":""},"done":false})");
  EXPECT_EQ(stripped(lines[1]),
            R"({"model":"test-model","message":{"role":"assistant","content":"ok","thinking":"hm"},"done":false})");
  EXPECT_EQ(stripped(lines[2]),
            R"({"model":"test-model","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",)"
            R"("prompt_eval_count":)" +
                read + R"(,"eval_count":19})");
  const Json whole = server.post("/api/chat", chat_with(R"(,"stream":false)"))->json();
  EXPECT_EQ(stripped(whole),
            R"({"model":"test-model","message":{"role":"assistant","content":"ok","thinking":"hm"},"done":true,)"
            R"("done_reason":"stop","prompt_eval_count":)" +
                read + R"(,"eval_count":19})");
  for (const std::string_view name : {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"})
    EXPECT_TRUE(whole.find(name)) << name;
  EXPECT_GE(whole.find("total_duration")->integer(), whole.find("eval_duration")->integer());
}

TEST(Ollama, generate_answers_a_prompt) {
  TestServer server;
  const Json whole = server.post("/api/generate", R"({"prompt":"Hi","system":"Be brief.","stream":false})")->json();
  EXPECT_EQ(whole.find("response")->string(), "Hello world");
  server.post("/api/chat", R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]})");
  EXPECT_EQ(server.model->requests[0].prompt, server.model->requests[1].prompt);
  const auto lines = lines_of(*server.post("/api/generate", R"({"prompt":"Hi"})"));
  std::string text;
  for (const Json& line : lines) text += line.find("response")->string();
  EXPECT_EQ(text, "Hello world");
}

TEST(Ollama, raw_continues_the_text) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>x"; };
  const Json whole = server.post("/api/generate", R"({"prompt":"ab","raw":true,"stream":false})")->json();
  EXPECT_EQ(whole.find("response")->string(), "<think>x");
  EXPECT_EQ(server.model->requests[0].prompt, (std::vector<TokenId>{'a', 'b'}));
}

TEST(Ollama, a_suffix_asks_to_fill_in) {
  TestServer server;
  const Json whole = server.post("/api/generate", R"({"prompt":"ab","suffix":"yz","stream":false})")->json();
  EXPECT_EQ(whole.find("response")->string(), "Hello world");
  server.post("/v1/completions", R"({"prompt":"ab","suffix":"yz"})");
  EXPECT_EQ(server.model->requests[0].prompt, server.model->requests[1].prompt);
  TestServer without(/*fills_in=*/false);
  const auto refused = without.post("/api/generate", R"({"prompt":"ab","suffix":"yz"})");
  EXPECT_EQ(refused->response.status, 501);
  EXPECT_NE(refused->json().find("error")->string().find("suffix"), std::string::npos);
  EXPECT_EQ(without.post("/api/show", "{}")->json().find("capabilities")->dump(), R"(["completion","thinking"])");
}

TEST(Ollama, options_become_settings) {
  TestServer server;
  server.post("/api/chat", chat_with(R"(,"options":{"temperature":0.5,"top_k":7,"num_predict":3,"seed":9,)"
                                     R"("stop":["wor"],"num_ctx":100000,"num_gpu":99})"));
  const Request& request = server.model->requests.at(0);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.seed, 9u);
  EXPECT_EQ(request.max_tokens, 3);
  EXPECT_EQ(request.stops, std::vector<std::string>{"wor"});
  server.post("/api/chat", chat_with(R"(,"options":{"num_predict":-1})"));
  EXPECT_LT(server.model->requests.at(1).max_tokens, 0);
}

TEST(Ollama, without_a_prompt_the_model_is_only_loaded) {
  TestServer server;
  for (const auto& [path, body] :
       std::vector<std::pair<std::string_view, std::string_view>>{{"/api/chat", "{}"},
                                                                  {"/api/chat", R"({"messages":[],"keep_alive":"5m"})"},
                                                                  {"/api/generate", R"({"model":"x","keep_alive":-1})"},
                                                                  {"/api/generate", R"({"prompt":""})"}}) {
    const Json answer = server.post(path, std::string(body))->json();
    EXPECT_EQ(answer.find("done_reason")->string(), "load") << path << body;
    EXPECT_EQ(answer.find("done")->boolean(), true);
  }
  EXPECT_TRUE(server.model->requests.empty());
}

TEST(Ollama, a_model_that_is_let_go_is_not_loaded_for_that) {
  TestServer server;
  server.host.asked = "nobody";
  server.host.there = false;  // who needs it would wait
  for (const std::string_view path : {"/api/chat", "/api/generate"})
    for (const std::string_view time : {"0", "0.0", R"("0")", R"("0s")", R"("0m0s")"}) {
      const Json answer =
          server.post(path, fmt::format(R"({{"model":"test-model:latest","keep_alive":{}}})", time))->json();
      ASSERT_TRUE(answer.find("done_reason")) << path << time << answer.dump();
      EXPECT_EQ(answer.find("done_reason")->string(), "unload") << path << time;
      EXPECT_EQ(answer.find("model")->string(), "test-model");
    }
  EXPECT_EQ(server.post("/api/chat", R"({"keep_alive":0})")->json().find("model")->string(), "test-model");
  EXPECT_EQ(server.post("/api/chat", R"({"model":"any","keep_alive":0})")->json().find("model")->string(),
            "test-model");
  EXPECT_EQ(server.post("/api/embed", R"({"keep_alive":0})")->text(), R"({"model":"test-model","embeddings":[]})");
  EXPECT_EQ(server.post("/api/embeddings", R"({"keep_alive":0})")->text(), R"({"embedding":[]})");
  EXPECT_EQ(server.host.asked, "nobody");
  server.host.there = true;
  const std::string prompt = R"({"prompt":"Hi","stream":false,"keep_alive":)";
  EXPECT_EQ(server.post("/api/generate", prompt + "0}")->json().find("done_reason")->string(), "stop");
  for (const std::string_view time : {"true", "{}", "[0]"})
    EXPECT_EQ(server.post("/api/generate", prompt + std::string(time) + "}")->response.status, 400) << time;
}

TEST(Ollama, tells_how_long_its_model_was_loaded) {
  constexpr auto kLoad = std::chrono::milliseconds(20);
  TestServer server;
  server.host.there = false;
  const auto writer = server.call("POST", "/api/generate", R"({"prompt":"Hi","stream":false})");
  std::this_thread::sleep_for(kLoad);
  server.host.load();
  server.loop.run();
  EXPECT_GE(writer->json().find("load_duration")->integer(), std::chrono::nanoseconds(kLoad).count());
}

TEST(Ollama, texts_as_vectors) {
  TestServer server;
  const Json two = server.post("/api/embed", R"({"model":"x","input":["a","bc"],"truncate":true})")->json();
  EXPECT_EQ(two.find("model")->string(), "test-model");
  EXPECT_EQ(two.find("embeddings")->dump(), "[[0.0,0.6,0.8,0.0,0.0,0.0,0.0,0.0],[0.0,0.0,0.6,0.8,0.0,0.0,0.0,0.0]]");
  EXPECT_EQ(two.find("prompt_eval_count")->integer(), 3);
  EXPECT_GE(two.find("total_duration")->integer(), two.find("load_duration")->integer());
  const Json one = server.post("/api/embed", R"({"input":"a","dimensions":8})")->json();
  EXPECT_EQ(one.find("embeddings")->dump(), "[[0.0,0.6,0.8,0.0,0.0,0.0,0.0,0.0]]");
  EXPECT_EQ(server.post("/api/embeddings", R"({"prompt":"a"})")->text(),
            R"({"embedding":[0.0,0.6,0.8,0.0,0.0,0.0,0.0,0.0]})");
  server.model->forget();
  EXPECT_EQ(server.post("/api/embed", "{}")->text(), R"({"model":"test-model","embeddings":[]})");
  EXPECT_EQ(server.post("/api/embed", R"({"input":[]})")->text(), R"({"model":"test-model","embeddings":[]})");
  EXPECT_EQ(server.post("/api/embeddings", R"({"prompt":""})")->text(), R"({"embedding":[]})");
  EXPECT_TRUE(server.model->requests.empty()) << "these only load the model";
}

TEST(Ollama, texts_that_are_no_input_of_vectors_are_refused) {
  const auto row = [](std::string_view path, std::string body, std::string_view word) {
    TestServer server;
    const auto writer = server.post(path, std::move(body));
    EXPECT_EQ(writer->response.status, 400) << writer->text();
    EXPECT_NE(writer->json().find("error")->string().find(word), std::string::npos) << writer->text();
  };
  row("/api/embed", R"({"input":5})", "input: expected a text or a list of texts, found 5");
  row("/api/embed", R"({"input":["a",""]})", "input[1]: expected a text that is not empty");
  row("/api/embed", R"({"input":[1,2]})", "input[0]: expected a text that is not empty, found 1");
  row("/api/embed", R"({"input":"a","dimensions":4})", "dimensions: expected 8");
  row("/api/embed", R"({"input":")" + std::string(1001, 'x') + "\"}", "context length");
  row("/api/embeddings", R"({"prompt":["a"]})", "prompt: expected a text");
  row("/api/embeddings", R"({"prompt":"a","keep_alive":[]})", "keep_alive");
  std::string many = R"({"input":["a")";
  for (int i = 0; i < 2048; ++i) many += R"(,"a")";
  row("/api/embed", many + "]}", "input: expected at most 2048 texts, found 2049");
}

TEST(Ollama, results_find_their_calls) {
  const auto messages = messages_of_ollama(*Json::parse(R"({"messages":[
      {"role":"assistant","content":"","tool_calls":[{"function":{"name":"add","arguments":{"a":1}}},
                                                     {"function":{"name":"sub"}}]},
      {"role":"tool","tool_name":"add","content":"3"},{"role":"tool","content":"4"},{"role":"tool","content":"5"}]})"));
  ASSERT_TRUE(messages) << messages.error().message;
  EXPECT_EQ(messages->dump(),
            R"([{"role":"assistant","content":null,"tool_calls":[)"
            R"({"id":"call00001","type":"function","function":{"name":"add","arguments":"{\"a\":1}"}},)"
            R"({"id":"call00002","type":"function","function":{"name":"sub","arguments":"{}"}}]},)"
            R"({"role":"tool","tool_call_id":"call00001","name":"add","content":"3"},)"
            R"({"role":"tool","tool_call_id":"call00002","content":"4"},)"
            R"({"role":"tool","tool_call_id":"","content":"5"}])");
}

TEST(Ollama, lists_of_models_have_what_clients_read) {
  TestServer server;
  const Json tags = server.call("GET", "/api/tags")->json();
  const Json& row = tags.find("models")->array().at(0);
  EXPECT_EQ(row.find("name")->string(), "test-model");
  EXPECT_EQ(row.find("modified_at")->string(), "2023-11-14T22:13:20.000000000Z");
  EXPECT_EQ(row.find("digest")->string().size(), 64u);
  EXPECT_EQ(row.find("details")->dump(),
            R"({"parent_model":"","format":"gguf","family":"test","families":["test"],"parameter_size":"1.2K",)"
            R"("quantization_level":"Q4_K"})");
  ModelDetails folder;
  folder.format = "safetensors";
  EXPECT_EQ(ollama_details(folder).find("format")->string(), "safetensors");
  const Json loaded = server.call("GET", "/api/ps")->json();
  EXPECT_EQ(loaded.find("models")->array().at(0).find("context_length")->integer(), 1000);
  const Json shown = server.post("/api/show", R"({"model":"test-model:latest"})")->json();
  EXPECT_EQ(shown.find("model_info")->find("test.context_length")->integer(), 1000);
  EXPECT_EQ(shown.find("capabilities")->dump(), R"(["completion","insert","thinking"])");
  EXPECT_EQ(server.call("GET", "/api/version")->json().find("version")->string(), kOllamaVersion);
}

TEST(Ollama, shows_a_model_that_is_not_in_memory_as_if_it_were) {
  TestServer server;
  const std::string loaded = server.post("/api/show", R"({"model":"test-model"})")->text();
  server.host.there = false;
  EXPECT_EQ(server.post("/api/show", R"({"model":"test-model"})")->text(), loaded);
  EXPECT_EQ(server.call("GET", "/api/ps")->text(), R"({"models":[]})");
  server.host.readable = false;
  const Json unread = server.post("/api/show", R"({"model":"test-model"})")->json();
  EXPECT_EQ(unread.find("template")->string(), "");
  EXPECT_EQ(unread.find("capabilities")->dump(), R"(["completion"])");
  EXPECT_EQ(unread.find("model_info")->dump(), R"({"general.architecture":"","general.parameter_count":0})");
  EXPECT_EQ(server.call("GET", "/api/tags")->json().find("models")->array().at(0).find("details")->dump(),
            R"({"parent_model":"","format":"gguf","family":"","families":[""],"parameter_size":"",)"
            R"("quantization_level":""})");
  EXPECT_TRUE(server.host.waiting.empty()) << "nobody loads it for that";
}

TEST(Ollama, holes_are_filled_by_models_that_have_the_tokens) {
  TestServer server(/*fills_in=*/false);
  for (const bool there : {true, false}) {
    server.host.there = there;
    EXPECT_EQ(server.post("/api/show", "{}")->json().find("capabilities")->dump(), R"(["completion","thinking"])");
  }
}

TEST(Ollama, pull_succeeds_for_what_is_here) {
  TestServer server;
  EXPECT_EQ(server.post("/api/pull", R"({"model":"test-model:latest"})")->text(), "{\"status\":\"success\"}\n");
  EXPECT_EQ(server.post("/api/pull", R"({"name":"alias","stream":false})")->text(), R"({"status":"success"})");
  const auto other = server.post("/api/pull", R"({"model":"gpt-oss:20b"})");
  EXPECT_EQ(other->response.status, 404);
  EXPECT_NE(other->json().find("error")->string().find("quern pull"), std::string::npos);
}

TEST(Ollama, refusals_are_texts_that_name_what_is_wrong) {
  struct Row {
    std::string_view path;
    std::string body;
    int status;
    std::string_view word;
  };
  const auto chat = [](std::string_view message) { return R"({"messages":[)" + std::string(message) + "]}"; };
  for (const Row& row : std::vector<Row>{
           {"/api/chat", R"({"messages":"text"})", 400, "messages"},
           {"/api/chat", chat("5"), 400, "messages[0]"},
           {"/api/chat", chat(R"({"role":"nobody","content":"x"})"), 400, "messages[0].role"},
           {"/api/chat", chat(R"({"role":"user","content":5})"), 400, "messages[0].content"},
           {"/api/chat", chat(R"({"role":"user","content":"x","images":["AAAA"]})"), 400, "images"},
           {"/api/chat", chat_with(R"(,"options":[])"), 400, "options"},
           {"/api/chat", chat_with(R"(,"options":{"temperature":"hot"})"), 400, "options.temperature"},
           {"/api/chat", chat_with(R"(,"options":{"num_predict":"x"})"), 400, "options.num_predict"},
           {"/api/chat", chat_with(R"(,"options":{"num_ctx":-5})"), 400, "options.num_ctx"},
           {"/api/chat", chat_with(R"(,"stream":"true")"), 400, "stream"},
           {"/api/chat", chat_with(R"(,"format":5)"), 400, "format"},
           {"/api/chat", chat_with(R"(,"format":[])"), 400, "format"},
           {"/api/chat", chat_with(R"(,"format":"json")"), 501, "format"},
           {"/api/chat", chat_with(R"(,"format":{})"), 501, "format"},
           {"/api/chat", chat_with(R"(,"tools":[{}])"), 400, "tools[0].function"},
           {"/api/chat", chat_with(R"(,"tools":[{"function":{"name":"f"}}])"), 501, "tools"},
           {"/api/chat", chat_with(R"(,"think":5)"), 400, "think"},
           {"/api/generate", R"({"prompt":5})", 400, "prompt"},
           {"/api/generate", R"({"prompt":"x","options":{"seed":"x"}})", 400, "options.seed"},
           {"/api/generate", R"({"prompt":"x","template":"{{ x }}"})", 501, "template"},
           {"/api/generate", R"({"prompt":"x","context":[1,2]})", 501, "context"},
           {"/api/generate", R"({"prompt":")" + std::string(2000, 'x') + "\"}", 400, "context length"},
       }) {
    TestServer server;
    const auto writer = server.post(row.path, row.body);
    EXPECT_EQ(writer->response.status, row.status) << row.body << writer->text();
    const Json answer = writer->json();
    ASSERT_TRUE(answer.find("error") && answer.find("error")->is_string()) << writer->text();
    EXPECT_NE(answer.find("error")->string().find(row.word), std::string::npos) << row.body << writer->text();
  }
}

TEST(Ollama, a_failure_in_the_middle_is_a_line) {
  TestServer server;
  server.model->at_once = false;
  const auto writer = server.post("/api/chat", chat_with(""));
  server.model->step(1);
  server.model->error = Error{ErrorCode::out_of_memory, "no page is left"};
  server.model->step(1);
  server.loop.run();
  EXPECT_EQ(lines_of(*writer).back().dump(), R"({"error":"no page is left"})");
  EXPECT_TRUE(writer->ended);
}

TEST(Ollama, times_are_written_as_rfc_3339_has_them) {
  using std::chrono::nanoseconds;
  const auto at = [](int64_t since) { return rfc3339(std::chrono::system_clock::time_point(nanoseconds(since))); };
  EXPECT_EQ(at(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(at(951'827'696'000'000'001), "2000-02-29T12:34:56.000000001Z");
  EXPECT_EQ(at(-1), "1969-12-31T23:59:59.999999999Z");
  using std::chrono::seconds, std::chrono::sys_seconds;
  EXPECT_EQ(rfc3339(sys_seconds(seconds(32'503'680'000))), "3000-01-01T00:00:00.000000000Z") << "as a file may have it";
  // Four digits are a year's.
  EXPECT_EQ(rfc3339(sys_seconds(seconds(253'402'300'799)), nanoseconds(5)), "9999-12-31T23:59:59.000000005Z");
  EXPECT_EQ(rfc3339(sys_seconds(seconds(-62'167'219'200))), "0000-01-01T00:00:00.000000000Z");
  for (const int64_t late : {int64_t{253'402'300'800}, std::numeric_limits<int64_t>::max()})
    EXPECT_EQ(rfc3339(sys_seconds(seconds(late))), "9999-12-31T23:59:59.000000000Z");
  for (const int64_t early : {int64_t{-62'167'219'201}, std::numeric_limits<int64_t>::min()})
    EXPECT_EQ(rfc3339(sys_seconds(seconds(early))), "0000-01-01T00:00:00.000000000Z");
}

TEST(Ollama, a_digest_tells_states_of_files_apart) {
  const ModelCard card{.name = "a", .aliases = {}};
  const FileState::Facts weights{
      .device = 1, .inode = 2, .bytes = 3, .written = {4, 5}, .changed = {32'503'680'000, 7}};
  const auto shown = [&](const FileState::Facts& facts, const char* folder = "/models") {
    ModelFacts out;
    out.files = {{std::filesystem::path(folder) / "config.json", weights},
                 {std::filesystem::path(folder) / "model.safetensors", facts},
                 {std::filesystem::path(folder) / "absent", {}}};
    ModelDetails details;
    details.created = 32'503'680'000;
    details.facts = std::make_shared<const ModelFacts>(std::move(out));
    const Json object = ollama_model_object(card, details);
    EXPECT_EQ(object.find("modified_at")->string(), "3000-01-01T00:00:00.000000000Z");
    return object.find("digest")->string();
  };
  std::vector<FileState::Facts> states(4, weights);
  states[1].bytes = 4;
  states[2].written.nanoseconds = 6;
  states[3].written.seconds = 5;
  std::set<std::string> digests;
  for (const auto& state : states) digests.insert(shown(state));
  EXPECT_EQ(digests.size(), states.size());
  FileState::Facts copied = weights;
  copied.device = 9;
  copied.inode = 10;
  copied.changed.nanoseconds = 8;
  EXPECT_EQ(shown(copied, "/other"), shown(weights)) << "the same on another disk, with its time";
}

TEST(Ollama, results_without_an_id_answer_the_first_call_that_has_none) {
  const auto body = Json::parse(R"({"messages":[
    {"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}},{"id":"b","function":{"name":"f"}},
                                      {"id":"a","function":{"name":"f"}},{"id":"c","function":{"name":"f"}}]},
    {"role":"tool","tool_call_id":"a","content":""},{"role":"tool","content":""},{"role":"tool","content":""},
    {"role":"tool","content":""}]})");
  const Json messages = *messages_of_ollama(*body);
  std::string ids;
  for (const Json& message : messages.array())
    if (const Json* id = message.find("tool_call_id")) ids += id->string() + ";";
  EXPECT_EQ(ids, "a;b;c;;");
}

}  // namespace
}  // namespace quern
