// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "quern/server/messages_input.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using ::quern::testing::TestServer;
using ::quern::testing::TestWriter;

constexpr std::string_view kPath = "/v1/messages";

std::string body_with(std::string_view members) {
  return R"({"max_tokens":50,"messages":[{"role":"user","content":"Hi"}])" + std::string(members.empty() ? "" : ",") +
         std::string(members) + "}";
}

/// The events with the message's random id replaced.
std::vector<std::string> events_of(const TestWriter& writer) {
  std::vector<std::string> out;
  for (auto [name, data] : writer.events()) {
    EXPECT_EQ(*Json::parse(data)->find("type"), Json(name));
    const size_t id = data.find("\"id\":\"msg_");
    if (id != data.npos) data.replace(id, data.find('"', id + 6) - id, R"("id":"msg)");
    out.push_back(data);
  }
  return out;
}

std::string messages_of(std::string_view body) {
  const auto prompt = anthropic_prompt(*Json::parse(body));
  return prompt ? prompt->messages.dump() : prompt.error().message;
}

TEST(Messages, stream_events_in_their_order) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>hm</think>ok"; };
  server.model->cached_tokens = 4;
  const auto writer = server.post(kPath, body_with(R"("stream":true)"));
  EXPECT_TRUE(writer->ended);
  const auto read = static_cast<int64_t>(server.model->requests[0].prompt.size());
  const std::vector<std::string> expected = {
      R"({"type":"message_start","message":{"id":"msg","type":"message","role":"assistant","model":"test-model","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":)" +
          std::to_string(read) + R"(,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}})",
      R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})",
      R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}})",
      // SHA-256 of "hm", from sha256sum.
      R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"b82e2178ecf4d0c5859dc2e169d7fed8673f9f6eeb9f3591bed5f253b7742408"}})",
      R"({"type":"content_block_stop","index":0})",
      R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})",
      R"({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"ok"}})",
      R"({"type":"content_block_stop","index":1})",
      R"({"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":)" +
          std::to_string(read - 4) +
          R"(,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":19}})",
      R"({"type":"message_stop"})",
  };
  EXPECT_EQ(events_of(*writer), expected);
}

TEST(Messages, the_whole_message_has_the_same_blocks) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>hm</think>ok"; };
  const Json whole = server.post(kPath, body_with(""))->json();
  EXPECT_EQ(whole.find("type")->string(), "message");
  EXPECT_EQ(whole.find("role")->string(), "assistant");
  const Json::Array& blocks = whole.find("content")->array();
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].find("thinking")->string(), "hm");
  EXPECT_EQ(blocks[1].dump(), R"({"type":"text","text":"ok"})");
  EXPECT_EQ(whole.find("stop_reason")->string(), "end_turn");
}

TEST(Messages, stop_reasons_are_told) {
  TestServer server;
  const Json cut = server.post(kPath, R"({"max_tokens":3,"messages":[{"role":"user","content":"Hi"}]})")->json();
  EXPECT_EQ(cut.find("stop_reason")->string(), "max_tokens");
  EXPECT_TRUE(cut.find("stop_sequence")->is_null());
  const Json stopped = server.post(kPath, body_with(R"("stop_sequences":["\u0001","wor"])"))->json();
  EXPECT_EQ(stopped.find("stop_reason")->string(), "stop_sequence");
  EXPECT_EQ(stopped.find("stop_sequence")->string(), "wor");
  EXPECT_EQ(stopped.find("content")->array()[0].find("text")->string(), "Hello ");
}

TEST(Messages, an_empty_answer_has_a_block) {
  TestServer server;
  server.model->answer = [](const Request&) { return ""; };
  EXPECT_EQ(server.post(kPath, body_with(""))->json().find("content")->dump(), R"([{"type":"text","text":""}])");
  const auto events = server.post(kPath, body_with(R"("stream":true)"))->events();
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[1].first, "content_block_start");
}

TEST(Messages, a_failure_in_the_middle_is_an_error_event) {
  TestServer server;
  server.model->at_once = false;
  const auto writer = server.post(kPath, body_with(R"("stream":true)"));
  server.model->step(1);
  server.model->error = Error{ErrorCode::out_of_memory, "no page is left"};
  server.model->step(1);
  server.loop.run();
  EXPECT_EQ(writer->events().back().first, "error");
  EXPECT_EQ(writer->events().back().second,
            R"({"type":"error","error":{"type":"overloaded_error","message":"no page is left"}})");
  EXPECT_TRUE(writer->ended);
}

TEST(Messages, count_tokens_is_what_usage_sums_to) {
  TestServer server;
  server.model->cached_tokens = 3;
  const std::string members = R"("system":[{"type":"text","text":"Be brief."}])";
  const Json usage = *server.post(kPath, body_with(members))->json().find("usage");
  const Json counted = server.post("/v1/messages/count_tokens", body_with(members))->json();
  EXPECT_EQ(counted.find("input_tokens")->integer(),
            usage.find("input_tokens")->integer() + usage.find("cache_read_input_tokens")->integer());
  EXPECT_EQ(
      server.post("/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"Hi"}]})")->response.status,
      200);
}

TEST(Messages, the_billing_line_never_reaches_the_prompt) {
  const std::string rest = R"("messages":[{"role":"user","content":"Hi"}]})";
  const std::string line = R"(x-anthropic-billing-header: cc_version=2.1; cch=fa690;)";
  const std::string plain = messages_of(R"({"system":[{"type":"text","text":"Be brief."}],)" + rest);
  for (const std::string& system :
       {R"([{"type":"text","text":")" + line + R"("},{"type":"text","text":"Be brief."}])",
        R"([{"type":"text","text":")" + line + R"(\nBe brief."}])", "\"" + line + R"(\nBe brief.")"})
    EXPECT_EQ(messages_of(R"({"system":)" + system + "," + rest), plain) << system;
  EXPECT_EQ(messages_of(R"({"system":")" + line + R"(",)" + rest), R"([{"role":"user","content":"Hi"}])");
  EXPECT_NE(messages_of(R"({"system":"Say )" + line + R"(",)" + rest), R"([{"role":"user","content":"Hi"}])");
}

TEST(Messages, blocks_of_one_turn_keep_their_order) {
  EXPECT_EQ(
      messages_of(R"({"messages":[{"role":"user","content":[
                {"type":"text","text":"a"},
                {"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"5"},{"type":"image"}]},
                {"type":"tool_result","tool_use_id":"t2"},
                {"type":"text","text":"b"},{"type":"text","text":"c"}]}]})"),
      R"([{"role":"user","content":"a"},)"
      R"({"role":"tool","tool_call_id":"t1","content":[{"type":"text","text":"5"},{"type":"text","text":"[image]"}]},)"
      R"({"role":"tool","tool_call_id":"t2","content":""},)"
      R"({"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]}])");
  EXPECT_EQ(messages_of(R"({"messages":[{"role":"assistant","content":[
                {"type":"redacted_thinking","data":"x"},{"type":"text","text":"I add."},
                {"type":"tool_use","id":"t1","name":"add","input":{"a":1}},
                {"type":"server_tool_use","id":"s1","name":"web_search","input":{}},
                {"type":"tool_use","id":"t2","name":"add","input":"{\"a\": "}]},
                {"role":"assistant","content":[]}]})"),
            R"([{"role":"assistant","content":"I add.","tool_calls":[)"
            R"({"id":"t1","type":"function","function":{"name":"add","arguments":"{\"a\":1}"}},)"
            R"({"id":"t2","type":"function","function":{"name":"add","arguments":"\"{\\\"a\\\": \""}}]},)"
            R"({"role":"assistant","content":""}])");
}

TEST(Messages, a_result_that_is_an_error_begins_with_that_word) {
  const auto told = [](std::string_view members) {
    const std::string said =
        messages_of(R"({"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",)" +
                    std::string(members) + "}]}]}");
    const std::string_view before = R"([{"role":"tool","tool_call_id":"t","content":)";
    return said.starts_with(before) ? said.substr(before.size(), said.size() - before.size() - 2) : said;
  };
  EXPECT_EQ(told(R"("is_error":true,"content":"no such file")"), R"("Error: no such file")");
  EXPECT_EQ(told(R"("is_error":true,"content":"Error: no such file")"), R"("Error: no such file")");
  EXPECT_EQ(told(R"("is_error":true,"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}])"),
            R"([{"type":"text","text":"Error: a"},{"type":"text","text":"b"}])");
  EXPECT_EQ(told(R"("is_error":true)"), R"("Error: ")");
  for (const std::string_view none : {R"("is_error":false,)", R"("is_error":null,)", ""})
    EXPECT_EQ(told(std::string(none) + R"("content":"no such file")"), R"("no such file")");
  EXPECT_EQ(told(R"("is_error":1,"content":"x")"), "messages[0].content[0].is_error: expected true or false, found 1");
}

TEST(Messages, thinking_is_a_matter_of_the_template) {
  const auto variables = [](std::string_view members) {
    return anthropic_prompt(*Json::parse(body_with(members)))->variables.dump();
  };
  EXPECT_EQ(variables(R"("thinking":{"type":"adaptive"})"), "{}");
  EXPECT_EQ(variables(R"("thinking":{"type":"enabled","budget_tokens":1024})"), R"({"enable_thinking":true})");
  EXPECT_EQ(variables(R"("output_config":{"effort":"low"})"), R"({"reasoning_effort":"low"})");
  EXPECT_NE(variables(R"("thinking":{"type":"disabled"})").find(R"("enable_thinking":false)"), std::string::npos);
  EXPECT_EQ(variables(R"("thinking":{"type":"enabled"},"chat_template_kwargs":{"enable_thinking":false})"),
            R"({"enable_thinking":false})");
}

TEST(Messages, refusals_name_what_is_wrong_in_their_shape) {
  struct Row {
    std::string body;
    int status;
    std::string_view word;
  };
  const auto user = [](std::string_view content) {
    return R"({"max_tokens":1,"messages":[{"role":"user","content":)" + std::string(content) + "}]}";
  };
  for (const Row& row : std::vector<Row>{
           {R"({"messages":[{"role":"user","content":"x"}]})", 400, "max_tokens"},
           {R"({"max_tokens":1})", 400, "messages"},
           {R"({"max_tokens":1,"messages":[]})", 400, "messages"},
           {R"({"max_tokens":1,"messages":"x"})", 400, "messages"},
           {R"({"max_tokens":1,"messages":[5]})", 400, "messages[0]"},
           {R"({"max_tokens":1,"messages":[{}]})", 400, "messages[0].role"},
           {R"({"max_tokens":1,"messages":[{"role":"nobody","content":"x"}]})", 400, "messages[0].role"},
           {user("5"), 400, "messages[0].content"},
           {user("{}"), 400, "messages[0].content"},
           {user("[5]"), 400, "messages[0].content[0]"},
           {user("[{}]"), 400, "messages[0].content[0].type"},
           {user(R"([{"type":"text"}])"), 400, "messages[0].content[0].text"},
           {user(R"([{"type":"text","text":5}])"), 400, "messages[0].content[0].text"},
           {user(R"([{"type":"tool_result"}])"), 400, "tool_use_id"},
           {user(R"([{"type":"image","source":{}}])"), 400, "image"},
           {body_with(R"("system":5)"), 400, "system"},
           {body_with(R"("system":[{"type":"text"}])"), 400, "system[0].text"},
           {body_with(R"("temperature":"hot")"), 400, "temperature"},
           {body_with(R"("top_k":-5)"), 400, "top_k"},
           {body_with(R"("stream":"true")"), 400, "stream"},
           {body_with(R"("stop_sequences":"x")"), 400, "stop_sequences"},
           {body_with(R"("stop_sequences":[5])"), 400, "stop_sequences"},
           {body_with(R"("stop_sequences":[null])"), 400, "stop_sequences"},
           {body_with(R"("tools":[{}])"), 400, "tools[0].name"},
           {body_with(R"("tools":[{"name":"x","input_schema":"text"}])"), 400, "input_schema"},
           {body_with(R"("tools":[{"name":"x","input_schema":{}}])"), 501, "tools"},
           {body_with(R"("tool_choice":"auto")"), 400, "tool_choice"},
           {body_with(R"("tool_choice":{"type":"x"})"), 400, "tool_choice"},
           {body_with(R"("tool_choice":{"type":"tool"})"), 400, "tool_choice"},
           {body_with(R"("tool_choice":{"type":"tool","name":"nothing"},"tools":[{"name":"a","input_schema":{}}])"),
            400, "nothing"},
           {body_with(R"("tool_choice":{"type":"any"})"), 501, "tool_choice"},
           {body_with(R"("output_config":{"format":{"type":"json_schema","schema":{}}})"), 501, "format"},
           {body_with(R"("thinking":{"type":"x"})"), 400, "thinking.type"},
       }) {
    TestServer server;
    const auto writer = server.post(kPath, row.body);
    EXPECT_EQ(writer->response.status, row.status) << row.body << writer->text();
    const Json answer = writer->json();
    ASSERT_TRUE(answer.find("error")) << row.body << writer->text();
    EXPECT_EQ(answer.find("type")->string(), "error");
    EXPECT_EQ(answer.find("error")->find("type")->string(), row.status == 400 ? "invalid_request_error" : "api_error");
    EXPECT_NE(answer.find("error")->find("message")->string().find(row.word), std::string::npos) << writer->text();
  }
}

TEST(Messages, what_agents_send_beside_is_taken) {
  TestServer server;
  for (const std::string_view members :
       {R"("tools":[])", R"("tools":[{"type":"web_search_20250305","name":"web_search","max_uses":5}])",
        R"("tool_choice":{"type":"auto"})", R"("metadata":{"user_id":"u"},"service_tier":"auto","unheard":1)",
        R"("output_config":{"effort":"low"},"context_management":{})", R"("model":"claude-opus-9-20300101")"}) {
    EXPECT_EQ(server.post(kPath, body_with(members))->response.status, 200) << members;
  }
}

TEST(Messages, a_prompt_that_does_not_fit_is_told_in_the_words_clients_look_for) {
  TestServer server;
  const auto writer = server.post(kPath, R"({"max_tokens":1,"stream":true,"messages":[{"role":"user","content":")" +
                                             std::string(2000, 'x') + "\"}]}");
  EXPECT_EQ(writer->response.status, 400);
  const std::string message = writer->json().find("error")->find("message")->string();
  EXPECT_TRUE(message.starts_with("prompt is too long: 2") && message.ends_with(" tokens > 1000 maximum")) << message;
}

}  // namespace
}  // namespace quern
