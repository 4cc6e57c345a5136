// SPDX-License-Identifier: Apache-2.0
// The same conversation reads the same in every dialect.
#include <gtest/gtest.h>

#include <random>

#include "quern/server/chat_messages.h"
#include "quern/server/messages_input.h"
#include "quern/server/ollama_input.h"
#include "quern/server/responses_input.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

/// A conversation in the forms of four dialects.
struct Told {
  Json chat, responses, anthropic, ollama;
};

Json text_item(std::string_view role, std::string_view text) {
  const std::string_view type = role == "assistant" ? "output_text" : "input_text";
  return Json::Object{
      {"type", "message"}, {"role", role}, {"content", Json::Array{Json::Object{{"type", type}, {"text", text}}}}};
}

Json text_block(std::string_view text) { return Json::Object{{"type", "text"}, {"text", text}}; }

/// Tells a random conversation, with calls of a tool and reasoning here and there.
class Teller {
 public:
  explicit Teller(unsigned seed) : random_(seed) {}

  Told tell() {
    if (chance()) {
      system_ = word();
      chat_.push_back(Json::Object{{"role", "system"}, {"content", system_}});
      ollama_.push_back(Json::Object{{"role", "system"}, {"content", system_}});
    }
    const int turns = 1 + static_cast<int>(random_() % 4);
    for (int i = 0; i < turns; ++i) {
      say_user();
      say_assistant();
      if (chance()) call_tool();
    }
    say_user();
    Told told;
    told.chat = Json::Object{{"messages", chat_}};
    told.responses = Json::Object{{"input", items_}};
    told.anthropic = Json::Object{{"messages", blocks_}, {"max_tokens", 8}};
    told.ollama = Json::Object{{"messages", ollama_}};
    if (!system_.empty()) {
      told.responses.set("instructions", system_);
      told.anthropic.set("system", system_);
    }
    return told;
  }

 private:
  bool chance() { return random_() % 2 == 0; }
  std::string word() {
    static constexpr std::string_view kWords[] = {"grain",      "a mill\nby the river", "漢字",
                                                  "<|im_end|>", "\"quotes\"",           " "};
    return std::string(kWords[random_() % std::size(kWords)]) + std::to_string(random_() % 100);
  }

  void say_user() {
    const std::string text = word();
    chat_.push_back(Json::Object{{"role", "user"}, {"content", text}});
    items_.push_back(chance() ? chat_.back() : text_item("user", text));
    Json content = chance() ? Json(text) : Json(Json::Array{text_block(text)});
    blocks_.push_back(Json::Object{{"role", "user"}, {"content", std::move(content)}});
    ollama_.push_back(chat_.back());
  }

  void say_assistant() {
    const std::string text = word(), reasoning = chance() ? word() : "";
    Json message = Json::Object{{"role", "assistant"}, {"content", text}};
    Json other = message;
    Json::Array content;
    if (!reasoning.empty()) {
      message.set("reasoning_content", reasoning);
      other.set("thinking", reasoning);
      content.push_back(Json::Object{{"type", "thinking"}, {"thinking", reasoning}, {"signature", "x"}});
      items_.push_back(
          Json::Object{{"type", "reasoning"},
                       {"summary", Json::Array()},
                       {"content", Json::Array{Json::Object{{"type", "reasoning_text"}, {"text", reasoning}}}}});
    }
    content.push_back(text_block(text));
    chat_.push_back(std::move(message));
    items_.push_back(text_item("assistant", text));
    blocks_.push_back(Json::Object{{"role", "assistant"}, {"content", std::move(content)}});
    ollama_.push_back(std::move(other));
  }

  void call_tool() {
    say_user();
    const std::string id = "call" + std::string(4, '0') + std::to_string(++calls_), output = word();
    const Json arguments = Json::Object{{"a", static_cast<int>(random_() % 9)}};
    const std::string text = arguments.dump();
    const Json function = Json::Object{{"name", "add"}, {"arguments", text}};
    chat_.push_back(Json::Object{
        {"role", "assistant"},
        {"content", nullptr},
        {"tool_calls", Json::Array{Json::Object{{"id", id}, {"type", "function"}, {"function", function}}}}});
    chat_.push_back(Json::Object{{"role", "tool"}, {"tool_call_id", id}, {"content", output}});
    items_.push_back(Json::Object{{"type", "function_call"}, {"call_id", id}, {"name", "add"}, {"arguments", text}});
    items_.push_back(Json::Object{{"type", "function_call_output"}, {"call_id", id}, {"output", output}});
    blocks_.push_back(Json::Object{
        {"role", "assistant"},
        {"content",
         Json::Array{Json::Object{{"type", "tool_use"}, {"id", id}, {"name", "add"}, {"input", arguments}}}}});
    const Json result = Json::Object{{"type", "tool_result"}, {"tool_use_id", id}, {"content", output}};
    blocks_.push_back(Json::Object{{"role", "user"}, {"content", Json::Array{result}}});
    const Json call = Json::Object{{"function", Json::Object{{"name", "add"}, {"arguments", arguments}}}};
    ollama_.push_back(Json::Object{{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::Array{call}}});
    ollama_.push_back(Json::Object{{"role", "tool"}, {"content", output}});
  }

  std::mt19937 random_;
  std::string system_;
  int calls_ = 0;
  Json::Array chat_, items_, blocks_, ollama_;
};

TEST(Dialects, tell_the_same_conversation_as_the_same_messages) {
  ::quern::testing::FakeStore store;
  for (unsigned seed = 0; seed < 300; ++seed) {
    const Told told = Teller(seed).tell();
    const std::string expected = template_messages(*told.chat.find("messages")).dump();
    const auto responses = response_prompt(told.responses, store, "");
    const auto anthropic = anthropic_prompt(told.anthropic);
    const auto ollama = messages_of_ollama(told.ollama);
    ASSERT_TRUE(responses && anthropic && ollama) << seed;
    EXPECT_EQ(responses->messages.dump(), expected) << seed;
    EXPECT_EQ(anthropic->messages.dump(), expected) << seed;
    EXPECT_EQ(ollama->dump(), expected) << seed;
    EXPECT_EQ(responses->variables, anthropic->variables) << seed;
  }
}

TEST(Dialects, are_read_as_the_same_tokens) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Told told = Teller(seed).tell();
    ::quern::testing::TestServer server;
    server.model->context = 100'000;
    for (const auto& [path, body] : {std::pair<std::string_view, const Json*>{"/v1/chat/completions", &told.chat},
                                     {"/v1/responses", &told.responses},
                                     {"/v1/messages", &told.anthropic},
                                     {"/api/chat", &told.ollama}})
      ASSERT_EQ(server.post(path, body->dump())->response.status, 200) << path << body->dump();
    ASSERT_EQ(server.model->requests.size(), 4u);
    for (const Request& request : server.model->requests)
      EXPECT_EQ(request.prompt, server.model->requests[0].prompt) << seed;
  }
}

TEST(Dialects, calls_of_custom_tools_are_functions_with_one_argument) {
  const auto chat = Json::parse(R"([{"role":"assistant","content":null,"tool_calls":[)"
                                R"({"id":"c","type":"custom","custom":{"name":"patch","input":"*** \"a\""}}]}])");
  const auto item = Json::parse(R"([{"type":"custom_tool_call","call_id":"c","name":"patch","input":"*** \"a\""}])");
  Conversation out;
  ASSERT_TRUE(add_response_input(*item, out));
  const Json messages = out.take_messages();
  const auto function = [](const Json& list) {
    return list.array().at(0).find("tool_calls")->array().at(0).find("function")->dump();
  };
  EXPECT_EQ(function(messages), R"({"name":"patch","arguments":"{\"input\":\"*** \\\"a\\\"\"}"})");
  EXPECT_EQ(function(messages), function(template_messages(*chat)));
}

TEST(Dialects, a_stored_turn_reads_as_if_spelled_out) {
  ::quern::testing::FakeStore store;
  const Json answer = Json::Object{
      {"id", "resp_1"}, {"previous_response_id", nullptr}, {"output", Json::Array{text_item("assistant", "Hi Ada")}}};
  store.put("ada", "resp_1",
            Json(Json::Object{{"response", answer}, {"input", response_input_items("I am Ada")}}).dump());
  const auto told =
      response_prompt(Json::Object{{"previous_response_id", "resp_1"}, {"input", "Who am I?"}}, store, "ada");
  ASSERT_TRUE(told) << told.error().message;
  EXPECT_EQ(told->messages.dump(), R"([{"role":"user","content":"I am Ada"},{"role":"assistant","content":"Hi Ada"},)"
                                   R"({"role":"user","content":"Who am I?"}])");
  const auto other = response_prompt(Json::Object{{"previous_response_id", "resp_1"}, {"input", "x"}}, store, "bob");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message, "previous_response_id: expected a stored response, found no \"resp_1\"");
}

TEST(Dialects, a_ring_of_stored_turns_ends) {
  ::quern::testing::FakeStore store;
  const Json answer = Json::Object{{"id", "resp_1"}, {"previous_response_id", "resp_1"}, {"output", Json::Array()}};
  store.put("", "resp_1", Json(Json::Object{{"response", answer}, {"input", Json::Array()}}).dump());
  EXPECT_FALSE(response_prompt(Json::Object{{"previous_response_id", "resp_1"}, {"input", "x"}}, store, ""));
}

/// A body of each dialect; more members may follow.
constexpr std::pair<std::string_view, std::string_view> kBodies[] = {
    {"/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}])"},
    {"/v1/responses", R"({"input":"Hi")"},
    {"/v1/messages", R"({"max_tokens":4,"messages":[{"role":"user","content":"Hi"}])"},
    {"/api/chat", R"({"stream":false,"messages":[{"role":"user","content":"Hi"}])"},
};

std::shared_ptr<::quern::testing::TestWriter> answer_to(std::string_view path, std::string_view body) {
  ::quern::testing::TestServer server;
  return server.post(path, std::string(body));
}

TEST(Dialects, refuse_a_key_that_stands_twice) {
  for (const auto& [path, body] : kBodies)
    for (const std::string_view members : {R"("seed":1,"seed":1)", R"("x":[{"seed":1,"a":2,"seed":3}])"}) {
      const auto writer = answer_to(path, fmt::format("{},{}}}", body, members));
      EXPECT_EQ(writer->response.status, 400) << path << members;
      EXPECT_NE(writer->text().find(R"(key \"seed\" stands twice)"), std::string::npos) << writer->text();
      EXPECT_TRUE(writer->json().find("error")) << writer->text();
    }
}

TEST(Dialects, take_bodies_of_200_levels) {
  for (const auto& [path, body] : kBodies)
    for (const auto& [lists, status] : {std::pair(199, 200), std::pair(200, 400)}) {
      const std::string deep =
          std::string(static_cast<size_t>(lists), '[') + std::string(static_cast<size_t>(lists), ']');
      EXPECT_EQ(answer_to(path, fmt::format("{},\"x\":{}}}", body, deep))->response.status, status) << path << lists;
    }
}

TEST(Dialects, take_128_tools) {
  for (const auto& [path, body] : kBodies) {
    std::string tools = R"({"type":"hosted","name":"a","function":{"name":"a"}})";
    for (int i = 1; i < 128; ++i) tools += R"(,{"type":"hosted","name":"a","function":{"name":"a"}})";
    // Ollama knows no hosted tools.
    EXPECT_EQ(answer_to(path, fmt::format("{},\"tools\":[{}]}}", body, tools))->response.status,
              path == "/api/chat" ? 501 : 200);
    const auto writer = answer_to(path, fmt::format("{},\"tools\":[{},{{}}]}}", body, tools));
    EXPECT_EQ(writer->response.status, 400) << path;
    EXPECT_NE(writer->text().find("tools: expected at most 128 tools, found 129"), std::string::npos) << writer->text();
  }
}

/// The prompt that a body is read as.
std::string prompt_of(std::string_view path, std::string_view body) {
  ::quern::testing::TestServer server;
  const auto writer = server.post(path, std::string(body));
  if (server.model->requests.size() != 1) return writer->text();
  std::string text;
  for (const TokenId id : server.model->requests[0].prompt) text += server.model->tokenizer().piece(id, true);
  return text;
}

constexpr std::string_view kAsked = "<|im_start|>user\nTwo and three?<|im_end|>\n<|im_start|>assistant\n";

TEST(Dialects, an_answer_goes_on_from_what_the_assistant_said_last) {
  const std::string expected = std::string(kAsked) + "The sum is ";
  const std::string turns =
      R"([{"role":"user","content":"Two and three?"},{"role":"assistant","content":"The sum is "}])";
  for (const auto& [path, body] : {std::pair<std::string_view, std::string>{"/v1/chat/completions", R"({"messages":)"},
                                   {"/v1/responses", R"({"input":)"},
                                   {"/v1/messages", R"({"max_tokens":4,"messages":)"},
                                   {"/api/chat", R"({"messages":)"}})
    EXPECT_EQ(prompt_of(path, body + turns + "}"), expected) << path;
  EXPECT_EQ(prompt_of("/v1/messages", R"({"max_tokens":4,"messages":[{"role":"user","content":"Two and three?"},)"
                                      R"({"role":"assistant","content":[{"type":"text","text":"Well."},)"
                                      R"({"type":"text","text":"The sum is "}]}]})"),
            std::string(kAsked) + "Well.\nThe sum is ");
}

TEST(Dialects, no_text_stands_for_the_end_of_what_was_said) {
  const std::string prompt =
      prompt_of("/v1/chat/completions", R"({"messages":[{"role":"user","content":"quernendmark quernendmarkx"},)"
                                        R"({"role":"assistant","content":"quernendmarkxx is"}]})");
  EXPECT_TRUE(prompt.ends_with("<|im_start|>assistant\nquernendmarkxx is")) << prompt;
}

TEST(Dialects, an_answer_begins_anew_after_all_else) {
  const std::string user = R"({"role":"user","content":"Two and three?"})";
  for (const std::string_view last :
       {R"({"role":"assistant","content":""})", R"({"role":"assistant","content":null})", R"({"role":"assistant"})",
        R"({"role":"assistant","content":[]})", R"({"role":"assistant","content":[{"type":"text","text":""}]})",
        R"({"role":"assistant","content":"I add.","tool_calls":[{"id":"c","function":{"name":"f","arguments":""}}]})",
        R"({"role":"user","content":"The sum is"})"}) {
    const std::string prompt = prompt_of("/v1/chat/completions", fmt::format(R"({{"messages":[{},{}]}})", user, last));
    EXPECT_TRUE(prompt.ends_with("<|im_end|>\n<|im_start|>assistant\n")) << prompt;
  }
}

TEST(Dialects, tokens_of_a_text_to_go_on_from_are_counted) {
  const std::string_view turns =
      R"("messages":[{"role":"user","content":"Two and three?"},{"role":"assistant","content":"The sum is"}]})";
  ::quern::testing::TestServer server;
  const Json counted = server.post("/v1/messages/count_tokens", fmt::format("{{{}", turns))->json();
  const Json answer = server.post("/v1/messages", fmt::format("{{\"max_tokens\":4,{}", turns))->json();
  EXPECT_EQ(*counted.find("input_tokens"), *answer.find("usage")->find("input_tokens"));
  EXPECT_EQ(answer.find("content")->array()[0].find("text")->string(), "Hell") << "what comes anew, alone";
}

}  // namespace
}  // namespace quern
