// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <regex>

#include "quern/server/responses_answer.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using ::quern::testing::TestServer;
using ::quern::testing::TestWriter;

constexpr std::string_view kPath = "/v1/responses";

/// Names that differ from run to run, as letters and a number in the order of their first appearance.
std::string named(std::string text) {
  std::map<std::string, std::string> names;
  std::string out;
  static const std::regex kId("(resp|msg|rs)_[0-9a-z]{24}");
  auto at = text.cbegin();
  for (std::sregex_iterator match(text.begin(), text.end(), kId), end; match != end; ++match) {
    out.append(at, (*match)[0].first);
    at = (*match)[0].second;
    const auto name = names.try_emplace(match->str(), (*match)[1].str() + "_" + std::to_string(names.size())).first;
    out += name->second;
  }
  out.append(at, text.cend());
  return out;
}

/// The events without the response objects in them, which are checked for themselves.
std::vector<std::string> events_of(const TestWriter& writer) {
  std::vector<std::string> out;
  for (const auto& [name, data] : writer.events()) {
    Json event = *Json::parse(data);
    EXPECT_EQ(*event.find("type"), Json(name));
    if (Json* response = const_cast<Json*>(event.find("response"))) *response = *Json(*response).find("status");
    out.push_back(event.dump());
  }
  const std::string all = named([&] {
    std::string joined;
    for (const std::string& event : out) joined += event + "\n";
    return joined;
  }());
  out.clear();
  for (size_t from = 0, to = 0; (to = all.find('\n', from)) != all.npos; from = to + 1)
    out.push_back(all.substr(from, to - from));
  return out;
}

TEST(Responses, stream_events_in_their_order) {
  TestServer server;
  server.model->answer = [](const Request&) { return "<think>hm</think>ok"; };
  const auto writer = server.post(kPath, R"({"input":"Hi","stream":true,"temperature":0})");
  EXPECT_TRUE(writer->ended);
  EXPECT_EQ(writer->response.content_type.substr(0, 17), "text/event-stream");
  // One call of the engine's for all tokens: a delta for each part.
  const std::vector<std::string> expected = {
      R"({"type":"response.created","sequence_number":0,"response":"in_progress"})",
      R"({"type":"response.in_progress","sequence_number":1,"response":"in_progress"})",
      R"({"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"rs_0","type":"reasoning","summary":[],"content":[],"status":"in_progress"}})",
      R"({"type":"response.reasoning_text.delta","sequence_number":3,"item_id":"rs_0","output_index":0,"content_index":0,"delta":"hm"})",
      R"({"type":"response.reasoning_text.done","sequence_number":4,"item_id":"rs_0","output_index":0,"content_index":0,"text":"hm"})",
      R"({"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"rs_0","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"status":"completed"}})",
      R"({"type":"response.output_item.added","sequence_number":6,"output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}})",
      R"({"type":"response.content_part.added","sequence_number":7,"item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}})",
      R"({"type":"response.output_text.delta","sequence_number":8,"item_id":"msg_1","output_index":1,"content_index":0,"delta":"ok","logprobs":[]})",
      R"({"type":"response.output_text.done","sequence_number":9,"item_id":"msg_1","output_index":1,"content_index":0,"text":"ok","logprobs":[]})",
      R"({"type":"response.content_part.done","sequence_number":10,"item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}})",
      R"({"type":"response.output_item.done","sequence_number":11,"output_index":1,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}]}})",
      R"({"type":"response.completed","sequence_number":12,"response":"completed"})",
  };
  EXPECT_EQ(events_of(*writer), expected);
}

TEST(Responses, the_streamed_response_is_the_whole_one) {
  TestServer server;
  server.model->cached_tokens = 7;
  const auto whole =
      server.post(kPath, R"({"input":"Hi","temperature":0.7,"metadata":{"a":"b"},"store":false})")->json();
  const auto events =
      server.post(kPath, R"({"input":"Hi","temperature":0.7,"metadata":{"a":"b"},"store":false,"stream":true})")
          ->events();
  Json streamed = *Json::parse(events.back().second)->find("response");
  streamed.set("created_at", *whole.find("created_at"));
  EXPECT_EQ(named(streamed.dump()), named(whole.dump()));
  EXPECT_EQ(whole.find("status")->string(), "completed");
  EXPECT_EQ(whole.find("temperature")->number(), 0.7);
  EXPECT_EQ(whole.find("tool_choice")->string(), "auto");
  const int64_t read = static_cast<int64_t>(server.model->requests[0].prompt.size());
  EXPECT_EQ(*whole.find("usage"), Json(Json::Object{{"input_tokens", read},
                                                    {"input_tokens_details", Json::Object{{"cached_tokens", 7}}},
                                                    {"output_tokens", 11},
                                                    {"output_tokens_details", Json::Object{{"reasoning_tokens", 0}}},
                                                    {"total_tokens", read + 11}}));
}

TEST(Responses, a_cut_answer_is_incomplete) {
  TestServer server;
  const auto whole = server.post(kPath, R"({"input":"Hi","max_output_tokens":3})")->json();
  EXPECT_EQ(whole.find("status")->string(), "incomplete");
  EXPECT_EQ(whole.find("incomplete_details")->dump(), R"({"reason":"max_output_tokens"})");
  EXPECT_EQ(whole.find("output")->array()[0].find("status")->string(), "incomplete");
  const auto events = server.post(kPath, R"({"input":"Hi","max_output_tokens":3,"stream":true})")->events();
  EXPECT_EQ(events.back().first, "response.incomplete");
}

TEST(Responses, an_empty_answer_is_a_message) {
  TestServer server;
  server.model->answer = [](const Request&) { return ""; };
  const auto whole = server.post(kPath, R"({"input":"Hi"})")->json();
  ASSERT_EQ(whole.find("output")->array().size(), 1u);
  EXPECT_EQ(whole.find("output")->array()[0].find("content")->array()[0].find("text")->string(), "");
}

TEST(Responses, progress_is_told_while_the_prompt_is_read) {
  TestServer server;
  server.model->at_once = false;
  const auto writer = server.post(kPath, R"({"input":"Hi","stream":true})");
  EXPECT_EQ(writer->events().size(), 2u) << "created and in_progress come at once";
  server.model->run(1);
  server.loop.run();
  EXPECT_EQ(writer->events().back().first, "response.completed");
}

TEST(Responses, tells_that_it_lives_in_every_phase_and_not_too_often) {
  for (const int milliseconds : {0, 3'600'000}) {
    const auto writer = std::make_shared<TestWriter>();
    ResponsesAnswer answer({.path = std::string(kPath),
                            .response = Json::Object{{"id", "resp_1"}, {"instructions", std::string(10'000, 'x')}},
                            .stream = true,
                            .alive_time = std::chrono::milliseconds(milliseconds)},
                           writer);
    const auto twice = [&] {
      const size_t before = writer->events().size();
      answer.alive();
      answer.alive();
      std::string names;
      for (size_t i = before; i < writer->events().size(); ++i) {
        names += writer->events()[i].first + ";";
        EXPECT_LT(writer->events()[i].second.size(), 1000U) << "no long text of the client";
      }
      return names;
    };
    answer.begin(5);
    const bool often = milliseconds == 0;
    EXPECT_EQ(twice(), often ? "response.in_progress;response.in_progress;" : "response.in_progress;");
    answer.piece(0, "hm", "", {});
    EXPECT_EQ(twice(), often ? "response.reasoning_text.delta;response.reasoning_text.delta;" : "");
    answer.piece(0, "", "ok", {});
    EXPECT_EQ(twice(), often ? "response.output_text.delta;response.output_text.delta;" : "");
    answer.end_choice(0, {});
    answer.end({});
    EXPECT_EQ(writer->events().back().first, "response.completed");
    const Json item = Json::parse(writer->events().back().second)->find("response")->find("output")->array()[1];
    EXPECT_EQ(item.find("content")->array()[0].find("text")->string(), "ok");
  }
}

TEST(Responses, a_chain_of_stored_turns_is_bounded) {
  TestServer server;
  server.model->context = 16 << 20;
  const auto stored = [&](std::string_view id, size_t bytes) {
    const Json response = Json::Object{{"output", Json::Array{}}, {"previous_response_id", nullptr}};
    const Json item = Json::Object{{"role", "user"}, {"content", std::string(bytes, 'x')}};
    server.store.put("", id, Json(Json::Object{{"response", response}, {"input", Json::Array{item}}}).dump());
  };
  stored("resp_small", 1 << 10);
  stored("resp_big", 33 << 20);
  const auto ask = [&](std::string_view id) {
    return server.post(kPath, fmt::format(R"({{"input":"Hi","previous_response_id":"{}"}})", id));
  };
  EXPECT_EQ(ask("resp_small")->response.status, 200);
  const auto refused = ask("resp_big");
  EXPECT_EQ(refused->response.status, 400);
  EXPECT_NE(refused->text().find("stored turns of 32 MiB at most"), std::string::npos) << refused->text();
}

TEST(Responses, a_failure_in_the_middle_is_an_event) {
  TestServer server;
  server.model->at_once = false;
  const auto writer = server.post(kPath, R"({"input":"Hi","stream":true})");
  server.model->step(1);
  server.model->error = Error{ErrorCode::out_of_memory, "no page is left"};
  server.model->step(1);
  server.loop.run();
  const auto [name, data] = writer->events().back();
  EXPECT_EQ(name, "response.failed");
  const Json response = *Json::parse(data)->find("response");
  EXPECT_EQ(response.find("status")->string(), "failed");
  EXPECT_EQ(response.find("error")->dump(), R"({"code":"server_error","message":"no page is left"})");
  EXPECT_TRUE(writer->ended);
}

TEST(Responses, stored_ones_are_there_for_their_key_alone) {
  TestServer server;
  const Json made = server.call("POST", kPath, R"({"input":"Hi"})", "ada")->json();
  const std::string path = std::string(kPath) + "/" + made.find("id")->string();
  EXPECT_EQ(server.call("GET", path, "", "ada")->json(), made);
  EXPECT_EQ(server.call("GET", path, "", "bob")->response.status, 404);
  const Json items = server.call("GET", path + "/input_items", "", "ada")->json();
  EXPECT_EQ(items.find("object")->string(), "list");
  ASSERT_EQ(items.find("data")->array().size(), 1u);
  EXPECT_EQ(items.find("data")->array()[0].find("content")->dump(), R"([{"type":"input_text","text":"Hi"}])");
  EXPECT_EQ(server.call("GET", path + "/input_items", "", "bob")->response.status, 404);
  EXPECT_EQ(server.call("DELETE", path, "", "bob")->response.status, 404);
  EXPECT_EQ(server.call("DELETE", path, "", "ada")->json().find("deleted")->boolean(), true);
  EXPECT_EQ(server.call("GET", path, "", "ada")->response.status, 404);
}

TEST(Responses, without_store_nothing_is_kept) {
  TestServer server;
  const Json made = server.post(kPath, R"({"input":"Hi","store":false})")->json();
  EXPECT_EQ(server.call("GET", std::string(kPath) + "/" + made.find("id")->string())->response.status, 404);
}

TEST(Responses, a_turn_goes_on_from_a_stored_one) {
  TestServer server;
  const Json first = server.post(kPath, R"({"input":"I am Ada","instructions":"Be brief."})")->json();
  const std::string id = first.find("id")->string();
  const Json second = server.post(kPath, R"({"input":"Who am I?","previous_response_id":")" + id + "\"}")->json();
  EXPECT_EQ(second.find("previous_response_id")->string(), id);
  server.post(kPath, R"({"input":"And now?","previous_response_id":")" + second.find("id")->string() + "\"}");
  server.post(kPath, R"({"input":[{"role":"user","content":"I am Ada"},{"role":"assistant","content":"Hello world"},)"
                     R"({"role":"user","content":"Who am I?"},{"role":"assistant","content":"Hello world"},)"
                     R"({"role":"user","content":"And now?"}]})");
  ASSERT_EQ(server.model->requests.size(), 4u);
  EXPECT_EQ(server.model->requests[2].prompt, server.model->requests[3].prompt);
}

TEST(Responses, input_tokens_are_those_of_the_answer) {
  TestServer server;
  const std::string body = R"({"instructions":"Be brief.","input":[{"role":"user","content":"Hi"}]})";
  const Json counted = server.post("/v1/responses/input_tokens", body)->json();
  EXPECT_EQ(counted.find("object")->string(), "response.input_tokens");
  EXPECT_EQ(*counted.find("input_tokens"), *server.post(kPath, body)->json().find("usage")->find("input_tokens"));
}

TEST(Responses, what_agents_replay_is_answered) {
  for (const std::string_view item :
       {R"({"type":"quantum_note","payload":{"a":1}})",
        R"({"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"t"}],"encrypted_content":"x"})",
        R"({"type":"custom_tool_call","call_id":"c1","name":"apply_patch","input":"*** Begin"})",
        R"({"type":"custom_tool_call_output","call_id":"c1","output":"ok"})",
        R"({"type":"function_call","call_id":"c1","name":"add","arguments":"{\"a\": "})",
        R"({"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"5"}]})",
        R"({"type":"message","role":"developer","content":[{"type":"input_text","text":"Be brief."}]})",
        R"({"role":"assistant","content":[{"type":"refusal","refusal":"No."}]})",
        R"({"role":"user","content":null})"}) {
    TestServer server;
    const auto writer = server.post(kPath, R"({"input":[{"role":"user","content":"Hi"},)" + std::string(item) +
                                               R"(,{"role":"user","content":"Go on"}]})");
    EXPECT_EQ(writer->response.status, 200) << item << writer->text();
  }
}

TEST(Responses, a_picture_in_a_result_is_a_word) {
  TestServer server;
  const auto post = [&](std::string_view picture, std::string_view file) {
    const auto writer =
        server.post(kPath, fmt::format(R"({{"input":[{{"role":"user","content":"Hi"}},)"
                                       R"({{"type":"function_call","call_id":"c1","name":"look","arguments":"{{}}"}},)"
                                       R"({{"type":"function_call_output","call_id":"c1","output":[{},)"
                                       R"({{"type":"input_text","text":"5"}},{}]}}]}})",
                                       picture, file));
    EXPECT_EQ(writer->response.status, 200) << writer->text();
  };
  post(R"({"type":"input_image","image_url":"data:image/png;base64,AAAA"})", R"({"type":"input_file","file_id":"f"})");
  post(R"({"type":"input_text","text":"[image]"})", R"({"type":"input_text","text":"[file]"})");
  ASSERT_EQ(server.model->requests.size(), 2u);
  EXPECT_EQ(server.model->requests[0].prompt, server.model->requests[1].prompt);
}

TEST(Responses, refusals_name_what_is_wrong) {
  struct Row {
    std::string_view members;
    int status;
    std::string_view word;
  };
  for (
      const Row& row : std::initializer_list<Row>{
          {R"("input":5)", 400, "input"},
          {R"("input":true)", 400, "input"},
          {R"("input":{})", 400, "input"},
          {R"("input":[5])", 400, "input[0]"},
          {R"("input":[null])", 400, "input[0]"},
          {R"("input":[{}])", 400, "input[0].role"},
          {R"("input":[{"role":"nobody","content":"x"}])", 400, "input[0].role"},
          {R"("input":[{"role":"user","content":5}])", 400, "input[0].content"},
          {R"("input":[{"role":"user","content":[{"type":"input_image"}]}])", 400, "input[0].content[0].type"},
          {R"("input":[{"type":"function_call","call_id":"c"}])", 400, "input[0].name"},
          {R"("max_output_tokens":"x")", 400, "input"},
          {R"("input":"x","max_output_tokens":"x")", 400, "max_output_tokens"},
          {R"("input":"x","max_output_tokens":-1)", 400, "max_output_tokens"},
          {R"("input":"x","temperature":"hot")", 400, "temperature"},
          {R"("input":"x","temperature":-1)", 400, "temperature"},
          {R"("input":"x","top_p":2)", 400, "top_p"},
          {R"("input":"x","store":1)", 400, "store"},
          {R"("input":"x","stream":"true")", 400, "stream"},
          {R"("input":"x","instructions":[])", 400, "instructions"},
          {R"("input":"x","previous_response_id":"")", 400, "previous_response_id"},
          {R"("input":"x","previous_response_id":"../../etc/passwd")", 400, "previous_response_id"},
          {R"("input":"x","previous_response_id":"\u0000")", 400, "previous_response_id"},
          {R"("input":"x","tools":[{}])", 400, "tools[0].type"},
          {R"("input":"x","tools":[{"type":"function"}])", 400, "tools[0].name"},
          {R"("input":"x","tools":[{"type":"function","name":5}])", 400, "tools[0].name"},
          {R"("input":"x","tools":[{"type":"custom","name":"e","format":{"type":"grammar","syntax":"yacc","definition":"x"}}])",
           400, "syntax"},
          {R"("input":"x","tools":[{"type":"function","name":"f"}])", 501, "tools"},
          {R"("input":"x","tool_choice":"x")", 400, "tool_choice"},
          {R"("input":"x","tool_choice":[])", 400, "tool_choice"},
          {R"("input":"x","tool_choice":"required")", 501, "tool_choice"},
          {R"("input":"x","text":[])", 400, "text"},
          {R"("input":"x","text":{"format":5})", 400, "text.format"},
          {R"("input":"x","text":{"format":{"type":"x"}})", 400, "text.format.type"},
          {R"("input":"x","text":{"format":{"type":"json_schema","name":"n"}})", 400, "text.format.schema"},
          {R"("input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{}}})", 501, "text.format"},
          {R"("input":"x","background":true)", 501, "background"},
          {R"("input":"x","top_logprobs":3)", 501, "top_logprobs"},
          {R"("input":"x","include":["message.output_text.logprobs"])", 501, "include"},
          {R"("input":"x","conversation":"conv_1")", 501, "conversation"},
      }) {
    TestServer server;
    const auto writer = server.post(kPath, "{" + std::string(row.members) + "}");
    EXPECT_EQ(writer->response.status, row.status) << row.members << writer->text();
    ASSERT_TRUE(writer->json().find("error")) << row.members << writer->text();
    const Json kept = *writer->json().find("error");
    EXPECT_NE(kept.find("message")->string().find(row.word), std::string::npos) << row.members << writer->text();
  }
}

TEST(Responses, hosted_tools_and_what_codex_sends_are_taken) {
  TestServer server;
  const auto writer = server.post(
      kPath, R"({"input":"Hi","tools":[{"type":"web_search"},{"type":"namespace","name":"n","tools":[]}],)"
             R"("include":["reasoning.encrypted_content"],"prompt_cache_key":"k","parallel_tool_calls":true,)"
             R"("reasoning":{"effort":"medium","summary":"auto"},"text":{"verbosity":"low","format":{"type":"text"}},)"
             R"("truncation":"disabled","tool_choice":"auto","store":false,"nobody_knows":{"a":1},"metadata":null})");
  EXPECT_EQ(writer->response.status, 200) << writer->text();
  EXPECT_EQ(writer->json().find("tools")->dump(), "[]");
}

TEST(Responses, a_prompt_that_does_not_fit_is_told_in_numbers) {
  TestServer server;
  for (const std::string_view stream : {"false", "true"}) {
    const auto writer =
        server.post(kPath, R"({"input":")" + std::string(2000, 'x') + R"(","stream":)" + std::string(stream) + "}");
    EXPECT_EQ(writer->response.status, 400);
    const Json error = *writer->json().find("error");
    EXPECT_EQ(error.find("code")->string(), "context_length_exceeded");
    EXPECT_EQ(error.find("n_ctx")->integer(), 1000);
  }
}

TEST(Responses, items_are_listed_in_pages) {
  TestServer server;
  const Json made =
      server
          .post(
              kPath,
              R"({"input":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"user","content":"c"}]})")
          ->json();
  const std::string path = std::string(kPath) + "/" + made.find("id")->string() + "/input_items";
  const auto list = [&](std::string_view query) {
    auto writer = std::make_shared<TestWriter>();
    route(HttpRequest{.method = "GET", .path = path, .query = std::string(query)}, "", writer, server.services);
    server.loop.run();
    return writer;
  };
  const auto texts = [](const Json& answer) {
    std::string out;
    for (const Json& item : answer.find("data")->array()) out += item.find("content")->string();
    return out;
  };
  EXPECT_EQ(texts(list("")->json()), "cba");
  const Json page = list("order=asc&limit=2")->json();
  EXPECT_EQ(texts(page), "ab");
  EXPECT_EQ(page.find("has_more")->boolean(), true);
  const Json rest = list("limit=2&order=asc&after=" + page.find("last_id")->string())->json();
  EXPECT_EQ(texts(rest), "c");
  EXPECT_EQ(rest.find("has_more")->boolean(), false);
  for (const std::string_view wrong : {"limit=0", "limit=101", "limit=x", "limit=-1", "order=up", "after=nothing"})
    EXPECT_EQ(list(wrong)->response.status, 400) << wrong;
}

}  // namespace
}  // namespace quern
