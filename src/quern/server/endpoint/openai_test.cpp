// SPDX-License-Identifier: Apache-2.0
// The OpenAI routes and llama.cpp's, from bytes to bytes over a model that answers as it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "quern/server/testing.h"
#include "quern/tokenizer/base64.h"

namespace quern {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TestServer;

constexpr std::string_view kChat = "/v1/chat/completions", kCompletions = "/v1/completions";
constexpr std::string_view kUser = R"("messages":[{"role":"user","content":"Hi"}])";

std::string with_user(std::string_view more) { return fmt::format("{{{}{}{}}}", kUser, more.empty() ? "" : ",", more); }
const Json& at(const Json& json, std::string_view path) {
  const Json* value = &json;
  while (!path.empty()) {
    const size_t end = std::min(path.find('.'), path.size());
    const std::string_view key = path.substr(0, end);
    value = value->is_array() ? &value->array().at(static_cast<size_t>(key[0] - '0')) : value->find(key);
    if (!value) {
      static const Json nothing;
      return nothing;
    }
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return *value;
}

TEST(OpenAi, chat_answers_with_one_object) {
  TestServer server;
  server.model->cached_tokens = 5;
  const auto answer = server.post(kChat, with_user(""));
  EXPECT_EQ(answer->response.status, 200) << answer->text();
  Json body = answer->json();
  EXPECT_THAT(at(body, "id").string(), StartsWith("chatcmpl-"));
  body.set("id", "x").set("created", 1);
  EXPECT_EQ(body.dump(),
            R"({"id":"x","object":"chat.completion","created":1,"model":"test-model","choices":[{"index":0,)"
            R"("message":{"role":"assistant","content":"Hello world","refusal":null},"logprobs":null,)"
            R"("finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":11,"total_tokens":32,)"
            R"("prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":0}}})");
}

/// Chunks with their id and time made equal.
std::vector<std::string> plain_events(const testing::TestWriter& writer) {
  std::vector<std::string> out;
  for (const auto& [name, data] : writer.events()) {
    EXPECT_EQ(name, "");
    auto json = Json::parse(data);
    if (json && json->is_object() && json->find("id")) json->set("id", "x").set("created", 1);
    out.push_back(json && json->is_object() ? json->dump() : data);
  }
  return out;
}

std::string chunk(std::string_view choices, std::string_view more = "") {
  return fmt::format(
      R"({{"id":"x","object":"chat.completion.chunk","created":1,"model":"test-model","choices":[{}]{}}})", choices,
      more);
}

TEST(OpenAi, streamed_chat_is_role_pieces_finish_usage_done) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>hm</think>yes"; };
  const auto answer = server.post(kChat, with_user(R"("stream":true,"stream_options":{"include_usage":true})"));
  EXPECT_THAT(answer->response.content_type, StartsWith("text/event-stream"));
  EXPECT_TRUE(answer->ended);
  EXPECT_THAT(
      plain_events(*answer),
      ElementsAre(
          chunk(R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})"),
          chunk(
              R"({"index":0,"delta":{"reasoning_content":"hm","content":"yes"},"logprobs":null,"finish_reason":null})"),
          chunk(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})"),
          chunk("",
                R"(,"usage":{"prompt_tokens":21,"completion_tokens":20,"total_tokens":41,)"
                R"("prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":17}})"),
          "[DONE]"));
}

TEST(OpenAi, a_stream_ends_with_an_error_where_the_engine_fails) {
  TestServer server;
  server.model->error = Error{ErrorCode::out_of_memory, "no pages left"};
  const auto answer = server.post(kChat, with_user(R"("stream":true)"));
  EXPECT_EQ(answer->response.status, 200);
  EXPECT_TRUE(answer->ended);
  const auto events = plain_events(*answer);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_THAT(events[1], HasSubstr(R"({"error":{"message":"no pages left")"));
  const auto whole = server.post(kChat, with_user(""));
  EXPECT_EQ(whole->response.status, 503);
}

TEST(OpenAi, a_stream_says_that_it_is_alive_with_an_empty_delta) {
  TestServer server;
  server.model->at_once = false;
  const auto answer = server.post(kChat, with_user(R"("stream":true)"));
  std::this_thread::sleep_for(std::chrono::milliseconds(420));
  server.loop.pass_time();
  EXPECT_THAT(plain_events(*answer).back(), HasSubstr(R"("delta":{},"logprobs":null,"finish_reason":null)"));
}

TEST(OpenAi, settings_reach_the_engine) {
  TestServer server;
  server.model->advice.temperature = 0.6F;
  server.model->advice.end_ids = {7};
  server.post(kChat, with_user(R"("temperature":null,"top_p":0.5,"top_k":3,"min_p":0.1,"seed":9,"n":1,
      "frequency_penalty":1,"presence_penalty":-1,"repeat_penalty":1.1,"stop":["a","","b"],"logit_bias":{"5":-100},
      "ignore_eos":true,"cache_prompt":false,"priority":-2,"max_tokens":9,"max_completion_tokens":5,"logprobs":true,
      "top_logprobs":2)"));
  ASSERT_EQ(server.model->requests.size(), 1U);
  const Request& r = server.model->requests[0];
  EXPECT_FLOAT_EQ(r.sampling.temperature, 0.6F);
  EXPECT_FLOAT_EQ(r.sampling.top_p, 0.5F);
  EXPECT_EQ(r.sampling.top_k, 3);
  EXPECT_FLOAT_EQ(r.sampling.min_p, 0.1F);
  EXPECT_EQ(r.sampling.seed, 9U);
  EXPECT_FLOAT_EQ(r.sampling.frequency_penalty, 1);
  EXPECT_FLOAT_EQ(r.sampling.presence_penalty, -1);
  EXPECT_FLOAT_EQ(r.sampling.repeat_penalty, 1.1F);
  EXPECT_THAT(r.sampling.logit_bias, ElementsAre(std::pair(5, -100.0F)));
  EXPECT_THAT(r.stops, ElementsAre("a", "b"));
  EXPECT_THAT(r.end_ids, ElementsAre(7));
  EXPECT_TRUE(r.ignore_end);
  EXPECT_FALSE(r.use_cache);
  EXPECT_EQ(r.priority, -2);
  EXPECT_EQ(r.max_tokens, 5);
  EXPECT_EQ(r.top_logprobs, 2);
  EXPECT_EQ(r.checkpoints.size(), 1U);
}

TEST(OpenAi, without_a_seed_requests_have_different_ones) {
  TestServer server;
  server.post(kChat, with_user(""));
  server.post(kChat, with_user(R"("seed":-1)"));
  EXPECT_NE(server.model->requests[0].sampling.seed, server.model->requests[1].sampling.seed);
  EXPECT_EQ(server.model->requests[0].max_tokens, -1);
  EXPECT_FLOAT_EQ(server.model->requests[0].sampling.temperature, 1);
}

TEST(OpenAi, chat_logprobs_spell_the_text) {
  TestServer server;
  server.model->answer = [](const Request&) { return "é!"; };
  const auto body = server.post(kChat, with_user(R"("logprobs":true,"top_logprobs":2)"))->json();
  const Json::Array& rows = at(body, "choices.0.logprobs.content").array();
  ASSERT_EQ(rows.size(), 3U);
  std::string bytes;
  for (const Json& row : rows) {
    for (const Json& byte : row.find("bytes")->array()) bytes += static_cast<char>(byte.integer());
    EXPECT_EQ(row.find("top_logprobs")->array().size(), 2U);
    EXPECT_EQ(at(row, "top_logprobs.0.logprob").number(), row.find("logprob")->number());
  }
  EXPECT_EQ(bytes, "é!");
}

TEST(OpenAi, stop_texts_do_not_show) {
  TestServer server;
  const auto body = server.post(kChat, with_user(R"("stop":"lo w")"))->json();
  EXPECT_EQ(at(body, "choices.0.message.content").string(), "Hel");
  EXPECT_EQ(at(body, "choices.0.finish_reason").string(), "stop");
  const auto cut = server.post(kChat, with_user(R"("max_tokens":4)"))->json();
  EXPECT_EQ(at(cut, "choices.0.message.content").string(), "Hell");
  EXPECT_EQ(at(cut, "choices.0.finish_reason").string(), "length");
}

TEST(OpenAi, spellings_of_one_conversation_are_one_prompt) {
  const auto prompt = [](std::string_view messages) {
    TestServer server;
    const auto answer = server.post(kChat, fmt::format(R"({{"messages":{}}})", messages));
    EXPECT_EQ(answer->response.status, 200) << answer->text();
    return server.model->requests.empty() ? std::vector<TokenId>() : server.model->requests[0].prompt;
  };
  EXPECT_EQ(prompt(R"([{"role":"developer","content":"a"},{"role":"user","content":"b"}])"),
            prompt(R"([{"role":"system","content":"a"},{"role":"user","content":"b"}])"));
  EXPECT_EQ(prompt(R"([{"role":"user","content":[{"type":"text","text":"b"}]}])"),
            prompt(R"([{"role":"user","content":"b"}])"));
  EXPECT_EQ(prompt(R"([{"role":"user","content":"b"},{"role":"assistant","content":null}])"),
            prompt(R"([{"role":"user","content":"b"},{"role":"assistant"}])"));
  EXPECT_EQ(prompt(R"([{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}])"),
            prompt(R"([{"role":"assistant","content":"no"}])"));
}

TEST(OpenAi, a_history_may_hold_calls_results_and_broken_arguments) {
  TestServer server;
  const auto answer = server.post(kChat, R"({"messages":[{"role":"user","content":"x"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{bro"}},
        {"id":"2","type":"custom","custom":{"name":"g","input":"text"}}]},
      {"role":"tool","tool_call_id":"1","content":"result"},{"role":"user","content":"y"}],
      "tools":[{"type":"web_search"}],"tool_choice":"auto"})");
  EXPECT_EQ(answer->response.status, 200) << answer->text();
}

TEST(OpenAi, reasoning_effort_reaches_the_template) {
  TestServer server;
  server.model->answer = [](const Request&) { return "hm</think>yes"; };
  const auto thinking = server.post(kChat, with_user(R"("chat_template_kwargs":{"enable_thinking":true})"))->json();
  EXPECT_EQ(at(thinking, "choices.0.message.reasoning_content").string(), "hm");
  const auto none = server.post(kChat, with_user(R"("reasoning_effort":"none")"))->json();
  EXPECT_EQ(at(none, "choices.0.message.content").string(), "hm</think>yes");
  EXPECT_EQ(at(none, "choices.0.message.reasoning_content"), Json());
}

TEST(OpenAi, overflow_has_its_words_and_numbers) {
  TestServer server;
  server.model->context = 40;
  for (const auto& [path, body, param] :
       {std::tuple(kChat, R"({"messages":[{"role":"user","content":"a question that is too long"}],"stream":true})",
                   "messages"),
        {kCompletions, R"({"prompt":"0123456789012345678901234567890123456789012"})", "prompt"},
        {"/v1/embeddings", R"({"input":"0123456789012345678901234567890123456789012"})", "input"}}) {
    const auto answer = server.post(path, body);
    EXPECT_EQ(answer->response.status, 400);
    const Json json = answer->json();
    EXPECT_EQ(at(json, "error.code").string(), "context_length_exceeded") << path;
    EXPECT_THAT(at(json, "error.message").string(), HasSubstr("maximum context length is 40 tokens"));
    EXPECT_EQ(at(json, "error.param").string(), param);
    EXPECT_EQ(at(json, "error.n_ctx").integer(), 40);
    EXPECT_GT(at(json, "error.n_prompt_tokens").integer(), 40);
  }
}

TEST(OpenAi, completions_take_texts_ids_and_lists) {
  TestServer server;
  const auto two = server.post(kCompletions, R"({"prompt":["ab","c"],"n":2})")->json();
  EXPECT_EQ(at(two, "choices").array().size(), 4U);
  EXPECT_EQ(at(two, "choices.3.index").integer(), 3);
  EXPECT_EQ(at(two, "usage.prompt_tokens").integer(), 3);
  EXPECT_EQ(at(two, "usage.completion_tokens").integer(), 44);
  server.model->requests.clear();
  server.post(kCompletions, R"({"prompt":[97,98]})");
  server.post(kCompletions, R"({"prompt":[[97,98],[99]]})");
  server.post(kCompletions, R"({"prompt":"<|im_start|>x"})");
  ASSERT_EQ(server.model->requests.size(), 4U);
  EXPECT_THAT(server.model->requests[0].prompt, ElementsAre(97, 98));
  EXPECT_THAT(server.model->requests[2].prompt, ElementsAre(99));
  EXPECT_EQ(server.model->requests[3].prompt.size(), 2U);
}

TEST(OpenAi, completions_score_an_echoed_prompt) {
  TestServer server;
  const auto body = server.post(kCompletions, R"({"prompt":"añb","echo":true,"max_tokens":0,"logprobs":1})")->json();
  EXPECT_EQ(at(body, "choices.0.text").string(), "añb");
  EXPECT_EQ(at(body, "usage.completion_tokens").integer(), 0);
  EXPECT_EQ(at(body, "choices.0.logprobs.tokens").dump(), R"(["a","","ñ","b"])");
  EXPECT_EQ(at(body, "choices.0.logprobs.token_logprobs").dump(), "[null,-0.5,-0.5,-0.5]");
  EXPECT_EQ(at(body, "choices.0.logprobs.text_offset").dump(), "[0,1,1,2]");
  EXPECT_TRUE(server.model->requests[0].prompt_logprobs);
}

TEST(OpenAi, completion_logprobs_have_the_old_form) {
  TestServer server;
  const auto body = server.post(kCompletions, R"({"prompt":"x","logprobs":2,"max_tokens":2})")->json();
  EXPECT_EQ(at(body, "choices.0.logprobs").dump(),
            R"({"tokens":["H","e"],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{"H":-0.5,"I":-1.5},)"
            R"({"e":-0.5,"f":-1.5}],"text_offset":[0,1]})");
}

TEST(OpenAi, streamed_completions_spell_the_whole_one) {
  TestServer server;
  const auto answer = server.post(kCompletions, R"({"prompt":"x","echo":true,"stream":true})");
  std::string text;
  const auto events = answer->events();
  for (size_t i = 0; i + 1 < events.size(); ++i) text += at(*Json::parse(events[i].second), "choices.0.text").string();
  EXPECT_EQ(text, "xHello world");
  EXPECT_EQ(events.back().second, "[DONE]");
}

TEST(OpenAi, suffix_and_infill_ask_for_fill_in_the_middle_tokens) {
  TestServer server;
  server.post(kCompletions, R"({"prompt":"a","suffix":"b"})");
  const Tokenizer& tokenizer = server.model->tokenizer();
  const TokenId prefix = *tokenizer.find("<|fim_prefix|>"), suffix = *tokenizer.find("<|fim_suffix|>"),
                middle = *tokenizer.find("<|fim_middle|>");
  EXPECT_THAT(server.model->requests[0].prompt, ElementsAre(prefix, 'a', suffix, 'b', middle));
  const auto answer = server.post("/infill", R"({"input_prefix":"a","input_suffix":"<|im_end|>","prompt":"c",
      "input_extra":[{"filename":"f","text":"t"}],"n_predict":0})");
  EXPECT_EQ(at(answer->json(), "content").string(), "");
  const auto& ids = server.model->requests[1].prompt;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.find("<|im_end|>")), 0);
  EXPECT_EQ(ids.back(), 'c');

  TestServer without(false);
  for (const auto& [path, body] : {std::pair(kCompletions, R"({"prompt":"a","suffix":"b"})"),
                                   {"/infill", R"({"input_prefix":"a","input_suffix":"b"})"}}) {
    const auto refused = without.post(path, body);
    EXPECT_EQ(refused->response.status, 501);
    EXPECT_THAT(refused->text(), HasSubstr("fill-in-the-middle"));
  }
}

TEST(OpenAi, llama_completion_has_its_own_form) {
  TestServer server;
  const auto whole =
      server.post("/completion", R"({"prompt":"x","stop":["wor"],"return_tokens":true,"n_probs":1})")->json();
  EXPECT_EQ(at(whole, "content").string(), "Hello ");
  EXPECT_EQ(at(whole, "stop_type").string(), "word");
  EXPECT_EQ(at(whole, "stopping_word").string(), "wor");
  EXPECT_EQ(at(whole, "tokens").array().size(), 9U);
  EXPECT_EQ(at(whole, "completion_probabilities").array().size(), 9U);
  EXPECT_TRUE(at(whole, "stop").boolean());
  const auto events = server.post("/completion", R"({"prompt":"x","stream":true,"n_predict":3})")->events();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(at(*Json::parse(events[1].second), "content").string(), "Hel");
  EXPECT_EQ(at(*Json::parse(events[2].second), "stop_type").string(), "limit");
}

/// "index: tokens_evaluated, cached of these, tokens_predicted" of a whole answer or the last event of a choice.
std::string llama_numbers(const Json& object) {
  const int64_t cached = at(object, "tokens_cached").integer();
  EXPECT_EQ(at(object, "timings.cache_n").integer(), cached);
  EXPECT_EQ(at(object, "timings.prompt_n").integer(), at(object, "tokens_evaluated").integer() - cached);
  EXPECT_EQ(at(object, "timings.predicted_n").integer(), at(object, "tokens_predicted").integer());
  return fmt::format("{}: {}, {}, {}", at(object, "index").integer(), at(object, "tokens_evaluated").integer(), cached,
                     at(object, "tokens_predicted").integer());
}

TEST(OpenAi, llama_completions_of_several_prompts_tell_their_own_numbers) {
  TestServer server;
  server.model->cached_tokens = 1;
  server.model->answer = [](const Request& request) { return std::string(2 * request.prompt.size(), 'x'); };
  const Json whole = server.post("/completion", R"({"prompt":["ab","cdef"]})")->json();
  ASSERT_EQ(whole.array().size(), 2U);
  EXPECT_EQ(llama_numbers(whole.array()[0]), "0: 2, 1, 4");
  EXPECT_EQ(llama_numbers(whole.array()[1]), "1: 4, 1, 8");
}

TEST(OpenAi, a_streamed_llama_completion_ends_each_prompt_when_it_has_ended) {
  TestServer server;
  server.model->at_once = false;
  const auto answer = server.post("/completion", R"({"prompt":["ab","cdef"],"stream":true,"n_predict":3})");
  ASSERT_EQ(server.model->requests.size(), 2U);
  const auto last = [&] { return *Json::parse(answer->events().back().second); };
  server.model->run(2);
  server.loop.run();
  EXPECT_TRUE(at(last(), "stop").boolean());
  EXPECT_EQ(llama_numbers(last()), "1: 4, 0, 3");
  EXPECT_FALSE(answer->ended);
  std::this_thread::sleep_for(std::chrono::milliseconds(420));
  server.loop.pass_time();
  EXPECT_FALSE(at(last(), "stop").boolean());
  EXPECT_EQ(at(last(), "index").integer(), 0) << "alive is who has not ended";
  server.model->run(1);
  server.loop.run();
  EXPECT_EQ(llama_numbers(last()), "0: 2, 0, 3");
  EXPECT_TRUE(answer->ended);
}

TEST(OpenAi, embeddings_as_numbers_and_as_bytes) {
  TestServer server;
  const auto body = server.post("/v1/embeddings", R"({"input":["a","bc",[1,2]],"dimensions":8})")->json();
  EXPECT_EQ(at(body, "data.1").dump(),
            R"({"object":"embedding","index":1,"embedding":[0.0,0.0,0.6,0.8,0.0,0.0,0.0,0.0]})");
  EXPECT_EQ(at(body, "usage").dump(), R"({"prompt_tokens":5,"total_tokens":5})");
  const auto coded = server.post("/v1/embeddings", R"({"input":"bc","encoding_format":"base64"})")->json();
  const auto bytes = base64_decode(at(coded, "data.0.embedding").string());
  ASSERT_TRUE(bytes && bytes->size() == 32);
  float third = 0;
  std::memcpy(&third, bytes->data() + 8, 4);
  EXPECT_EQ(third, 0.6F);
}

TEST(OpenAi, tokens_and_back) {
  TestServer server;
  EXPECT_EQ(server.post("/tokenize", R"({"content":"ab"})")->text(), R"({"tokens":[97,98]})");
  EXPECT_EQ(server.post("/tokenize", R"({"content":""})")->text(), R"({"tokens":[]})");
  EXPECT_EQ(server.post("/tokenize", R"({"content":"<|im_end|>","parse_special":true})")->text(),
            R"({"tokens":[258]})");
  EXPECT_EQ(at(server.post("/tokenize", R"({"content":"<|im_end|>"})")->json(), "tokens").array().size(), 10U);
  EXPECT_EQ(server.post("/detokenize", R"({"tokens":[97,98]})")->text(), R"({"content":"ab"})");
  EXPECT_EQ(server.post("/detokenize", R"({"tokens":[]})")->text(), R"({"content":""})");
}

TEST(OpenAi, models_tell_the_context_of_one_request) {
  TestServer server;
  const auto list = server.call("GET", "/v1/models")->json();
  EXPECT_EQ(at(list, "data.0.id").string(), "test-model");
  EXPECT_EQ(at(list, "data.0.context_length").integer(), 1000);
  EXPECT_EQ(server.call("GET", "/v1/models/alias")->json(), at(list, "data.0"));
  EXPECT_EQ(server.call("GET", "/v1/models/other")->response.status, 404);
  EXPECT_EQ(at(server.call("GET", "/props")->json(), "default_generation_settings.n_ctx").integer(), 1000);
  EXPECT_THAT(server.call("GET", "/metrics")->response.content_type, StartsWith("text/plain"));
}

TEST(OpenAi, models_are_told_of_whether_they_are_in_memory_or_not) {
  TestServer server;
  server.host.there = false;
  const auto shown = [&](std::string_view path) { return server.call("GET", path)->json(); };
  EXPECT_EQ(shown("/v1/models").dump(),
            R"({"object":"list","data":[{"id":"test-model","object":"model","created":1700000000,"owned_by":"quern",)"
            R"("context_length":1000,"aliases":["alias"],"meta":{"architecture":"test","quantization":"Q4_K",)"
            R"("n_params":1234,"size":1000,"loaded":false,"n_ctx_train":4096,"n_embd":8,"n_vocab":262}}]})");
  EXPECT_EQ(shown("/v1/models/alias"), at(shown("/v1/models"), "data.0"));
  EXPECT_EQ(shown("/props").find("default_generation_settings"), nullptr);
  server.host.readable = false;
  EXPECT_EQ(at(shown("/v1/models"), "data.0").dump(),
            R"({"id":"test-model","object":"model","created":1700000000,"owned_by":"quern","aliases":["alias"],)"
            R"("meta":{"architecture":"","quantization":"","n_params":0,"size":1000,"loaded":false}})");
  EXPECT_TRUE(server.host.waiting.empty()) << "nobody loads it for that";
}

TEST(OpenAi, description_has_every_route_and_its_fields) {
  TestServer server;
  const auto document = server.call("GET", "/openapi.json")->json();
  for (const Endpoint* endpoint : endpoints()) {
    const Json* item = document.find("paths")->find(endpoint->path);
    ASSERT_NE(item, nullptr) << endpoint->path;
    std::string method(endpoint->method);
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    const Json* operation = item->find(method);
    ASSERT_NE(operation, nullptr) << endpoint->path;
    for (const FieldSpec& spec : endpoint->fields) {
      const Json& schema = *operation->find("requestBody")->find("content")->find("application/json")->find("schema");
      EXPECT_NE(schema.find("properties")->find(spec.name), nullptr) << spec.name;
    }
  }
}

// -- what must be refused

struct BadValues {
  std::string_view path, valid, field;
  std::vector<std::string_view> values;
};

const std::vector<std::string_view> kNotNumber = {R"("1")", R"("NaN")", R"("")", "true", "[]", "{}", "DEEP"};
std::vector<std::string_view> operator+(std::vector<std::string_view> a, const std::vector<std::string_view>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
const std::vector<std::string_view> kNotInteger =
    kNotNumber + std::vector<std::string_view>{"1.5", "1e308", "-9223372036854775808", "18446744073709551616"};
const std::vector<std::string_view> kNotBool = {R"("true")", R"("")", "1", "0", "[]", "{}", "DEEP"};
const std::vector<std::string_view> kNotText = {"5", "true", "[]", "{}", "DEEP"};
const std::vector<std::string_view> kNotObject = {R"("x")", "5", "true", "[]", "DEEP"};

std::vector<BadValues> bad_values() {
  std::vector<BadValues> rows;
  const std::string_view chat = R"({"messages":[{"role":"user","content":"Hi"}]})", text = R"({"prompt":"Hi"})";
  for (const auto& [path, valid] : {std::pair(kChat, chat), {kCompletions, text}, {"/completion", text}}) {
    rows.push_back({path, valid, "temperature", kNotNumber + std::vector<std::string_view>{"-1", "1e308", "-0.001"}});
    rows.push_back({path, valid, "top_p", kNotNumber + std::vector<std::string_view>{"-0.1", "1.5", "1e308"}});
    rows.push_back({path, valid, "min_p", kNotNumber + std::vector<std::string_view>{"-0.1", "1.5"}});
    rows.push_back({path, valid, "seed", {R"("1")", "[]", "{}", "1.5", "DEEP"}});
    for (const std::string_view field : {"frequency_penalty", "presence_penalty"})
      rows.push_back({path, valid, field, kNotNumber + std::vector<std::string_view>{"-2.5", "2.5", "1e308"}});
    rows.push_back({path, valid, "top_k", {R"("1")", "1.5", "[]", "{}", "18446744073709551616"}});
    rows.push_back({path, valid, "stream", kNotBool});
    rows.push_back({path, valid, "ignore_eos", kNotBool});
    rows.push_back({path, valid, "cache_prompt", kNotBool});
    rows.push_back({path, valid, "priority", kNotInteger + std::vector<std::string_view>{"1001"}});
    rows.push_back({path, valid, "stop", {"5", "true", "{}", "[5]", "[null]", "[[]]", "MANY", "DEEP"}});
    rows.push_back({path, valid, "logit_bias",
                    kNotObject + std::vector<std::string_view>{R"({"x":1})", R"({"1":"a"})", R"({"-1":5})",
                                                               R"({"99999999":5})", R"({"1":1e308})", R"({"1.5":1})",
                                                               R"({"":1})", R"({"01":1})", R"({"4294967296":1})"}});
  }
  for (const auto& [path, valid] : {std::pair(kChat, chat), {kCompletions, text}}) {
    rows.push_back({path, valid, "n", kNotInteger + std::vector<std::string_view>{"0", "-1", "129", "1000000"}});
    rows.push_back({path, valid, "max_tokens", kNotInteger});
    rows.push_back(
        {path, valid, "stream_options", kNotObject + std::vector<std::string_view>{R"({"include_usage":1})"}});
  }
  rows.push_back({kChat, chat, "max_completion_tokens", kNotInteger});
  rows.push_back({kChat, chat, "logprobs", kNotBool});
  rows.push_back({kChat, chat, "top_logprobs", kNotInteger + std::vector<std::string_view>{"-1", "21", "129", "5"}});
  rows.push_back({kChat,
                  chat,
                  "messages",
                  {R"("x")",
                   "5",
                   "true",
                   "{}",
                   "[]",
                   "[5]",
                   "[null]",
                   "[[]]",
                   R"(["text"])",
                   "[{}]",
                   R"([{"content":"x"}])",
                   R"([{"role":""}])",
                   R"([{"role":"nobody"}])",
                   R"([{"role":"USER"}])",
                   R"([{"role":5}])",
                   R"([{"role":"user","content":5}])",
                   R"([{"role":"user","content":{}}])",
                   R"([{"role":"user","content":[5]}])",
                   R"([{"role":"user","content":[{}]}])",
                   R"([{"role":"user","content":[{"type":"text"}]}])",
                   R"([{"role":"user","content":[{"type":"text","text":5}]}])",
                   R"([{"role":"user","content":[{"type":"image_url"}]}])",
                   R"([{"role":"assistant","tool_calls":5}])",
                   R"([{"role":"assistant","tool_calls":[5]}])",
                   R"([{"role":"user","name":5}])",
                   "DEEP"}});
  rows.push_back(
      {kChat,
       chat,
       "response_format",
       {R"("json")", "5", "true", "[]", "{}", R"({"type":5})", R"({"type":"json_schema"})",
        R"({"type":"json_schema","json_schema":5})", R"({"type":"json_schema","json_schema":{"name":"x"}})"}});
  rows.push_back({kChat,
                  chat,
                  "tools",
                  {R"("x")", "5", "true", "{}", "[5]", "[null]", "[{}]", R"([{"type":"function"}])",
                   R"([{"type":"function","function":5}])", R"([{"type":"function","function":{"name":""}}])",
                   R"([{"type":"function","function":{"name":5}}])", "DEEP"}});
  rows.push_back({kChat,
                  chat,
                  "tool_choice",
                  {"5", "true", "[]", R"("x")", R"({"type":"function"})", R"({"type":"function","function":{}})",
                   R"("required")", "DEEP"}});
  rows.push_back({kChat, chat, "chat_template_kwargs", kNotObject});
  rows.push_back({kChat, chat, "reasoning_effort", kNotText + std::vector<std::string_view>{R"("a lot")"}});
  rows.push_back({kChat, chat, "model", kNotText});
  rows.push_back({kCompletions,
                  text,
                  "prompt",
                  {"true", "{}", "[]", "[[]]", "[null]", "[true]", R"(["a",5])", "[1.5]", "[-1]", "[99999999]",
                   "[2147483648]", "[18446744073709551616]", "[[1],[99999999]]", "DEEP"}});
  rows.push_back({kCompletions, text, "logprobs", {R"("1")", "[]", "{}", "-1", "1000", "9223372036854775808"}});
  rows.push_back({kCompletions, text, "echo", kNotBool});
  rows.push_back({kCompletions, text, "suffix", kNotText});
  rows.push_back({"/v1/embeddings",
                  R"({"input":"Hi"})",
                  "input",
                  {"5", "true", "{}", "[]", R"("")", R"(["a",null])", R"(["a",""])", "[null]", "[[]]", "[{}]", "[-1]",
                   "[99999999]", "DEEP"}});
  rows.push_back({"/v1/embeddings", R"({"input":"Hi"})", "encoding_format", {"5", R"("hex")", "[]", "{}"}});
  rows.push_back(
      {"/v1/embeddings", R"({"input":"Hi"})", "dimensions", {R"("1")", "-1", "0", "[]", "9223372036854775808", "4"}});
  rows.push_back({"/tokenize", R"({"content":"Hi"})", "content", kNotText});
  rows.push_back({"/tokenize", R"({"content":"Hi"})", "parse_special", {R"("x")", "5", "[]"}});
  rows.push_back({"/detokenize",
                  R"({"tokens":[1]})",
                  "tokens",
                  {R"("x")", "5", "{}", R"(["a"])", "[1.5]", "[-1]", "[2147483648]", "[9223372036854775808]", "[null]",
                   "[262]", "DEEP"}});
  rows.push_back({"/infill", "{}", "input_extra", {R"("x")", "5", "{}", "[5]", "[{}]", R"([{"text":5}])"}});
  rows.push_back({"/completion", text, "n_predict", kNotInteger + std::vector<std::string_view>{"-2"}});
  return rows;
}

TEST(OpenAi, every_wrong_value_is_a_400_that_names_its_field) {
  TestServer server;
  const std::string deep = std::string(2000, '[') + std::string(2000, ']');
  std::string many = "[\"x\"";
  for (int i = 0; i < 999; ++i) many += ",\"x\"";
  many += ']';
  for (const BadValues& row : bad_values()) {
    const size_t requests = server.model->requests.size();
    for (const std::string_view value : row.values) {
      std::string body(row.valid);
      const std::string member = fmt::format("\"{}\":{}", row.field,
                                             value == "DEEP"   ? deep
                                             : value == "MANY" ? many
                                                               : value);
      // Of two members of one name the later one counts.
      body.insert(body.size() - 1, (body == "{}" ? "" : ",") + member);
      const auto answer = server.post(row.path, body);
      EXPECT_EQ(answer->response.status, 400) << row.path << " " << row.field << " " << value << answer->text();
      const Json error = at(answer->json(), "error");
      ASSERT_TRUE(error.is_object()) << answer->text();
      EXPECT_EQ(at(error, "type").string(), "invalid_request_error");
      EXPECT_TRUE(at(error, "code").is_null() || at(error, "code").is_string());
      if (value != "DEEP") {
        EXPECT_THAT(at(error, "message").string(), HasSubstr(row.field)) << value;
      }
      EXPECT_LT(answer->text().size(), 400U);
    }
    EXPECT_EQ(server.model->requests.size(), requests) << row.path << " " << row.field;
    const auto valid = server.post(row.path, std::string(row.valid));
    EXPECT_EQ(valid->response.status, 200) << row.path << valid->text();
  }
}

TEST(OpenAi, what_is_not_built_is_a_501_that_names_it) {
  TestServer server;
  for (const auto& [field, more] :
       {std::pair("tools", R"("tools":[{"type":"function","function":{"name":"f"}}])"),
        {"tools", R"("tools":[{"type":"web_search"},{"type":"custom","custom":{"name":"f"}}])"},
        {"tool_choice", R"("tools":[{"type":"web_search"}],"tool_choice":"required")"},
        {"response_format", R"("response_format":{"type":"json_object"})"},
        {"response_format", R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}})"},
        {"grammar", R"("grammar":"root ::= \"a\"")"}}) {
    const auto answer = server.post(kChat, with_user(more));
    EXPECT_EQ(answer->response.status, 501) << more;
    EXPECT_THAT(at(answer->json(), "error.message").string(), HasSubstr(field));
  }
  for (const std::string_view more :
       {R"("tools":[])", R"("tools":[],"tool_choice":"auto")", R"("tool_choice":"none")",
        R"("tools":[{"type":"web_search"}])", R"("response_format":{"type":"text"})", R"("grammar":null)",
        R"("xyz":{"a":[1,null]},"store":true,"metadata":{"a":"b"},"verbosity":"low","reasoning_effort":"low")"})
    EXPECT_EQ(server.post(kChat, with_user(more))->response.status, 200) << more;
}

TEST(OpenAi, forms_that_are_not_built_are_a_501_of_the_routes_that_list_them) {
  TestServer server;
  const std::string_view prompt = R"({"prompt":"x",)", hole = R"({"input_prefix":"a","input_suffix":"b",)";
  for (const auto& [path, begin, form, more] :
       {std::tuple(kCompletions, prompt, "response_format", R"("response_format":{"type":"json_object"}})"),
        {kCompletions, prompt, "grammar", R"("grammar":"root ::= \"a\""})"},
        {"/completion", prompt, "grammar", R"("grammar":"root ::= \"a\""})"},
        {"/completion", prompt, "json_schema", R"("json_schema":{}})"},
        {"/infill", hole, "grammar", R"("grammar":"root ::= \"a\""})"},
        {"/infill", hole, "json_schema", R"("json_schema":{}})"}}) {
    const auto answer = server.post(path, std::string(begin) + more);
    EXPECT_EQ(answer->response.status, 501) << path << " " << more;
    EXPECT_THAT(at(answer->json(), "error.message").string(), HasSubstr(form));
  }
}

TEST(OpenAi, bodies_that_are_not_the_object_are_refused) {
  TestServer server;
  for (const Endpoint* endpoint : endpoints()) {
    if (endpoint->fields.empty() || endpoint->method != "POST") continue;
    for (const std::string_view body : {"", " ", "{", "}", "nul", "NaN", "'a'", R"({"a":1,})", "{} x", "{}{}",
                                        "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}", R"({"a":"\ud800"})", "null", "1", "[]"}) {
      const auto answer = server.post(endpoint->path, std::string(body));
      EXPECT_EQ(answer->response.status, 400) << endpoint->path << " " << body;
      EXPECT_NE(answer->json().find("error"), nullptr) << endpoint->path << " " << body;
    }
  }
}

TEST(OpenAi, only_json_is_taken) {
  TestServer server;
  auto writer = std::make_shared<testing::TestWriter>();
  HttpRequest request{.method = "POST", .path = "/tokenize", .body = R"({"content":"x"})"};
  request.headers.emplace_back("content-type", "text/plain");
  route(request, "", writer, server.services);
  server.loop.run();
  EXPECT_EQ(writer->response.status, 415);
  writer = std::make_shared<testing::TestWriter>();
  request.headers[0].second = "Application/JSON; charset=utf-8";
  route(request, "", writer, server.services);
  server.loop.run();
  EXPECT_EQ(writer->response.status, 200);
}

}  // namespace
}  // namespace quern
