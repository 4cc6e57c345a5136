// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace quern {
namespace {

ChatTemplate compiled(std::string_view source) {
  auto out = ChatTemplate::compile(source);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return *std::move(out);
}

ChatTemplate published(const std::string& name) {
  std::ifstream in(std::string(QUERN_SOURCE_DIR) + "/tests/data/templates/" + name + ".jinja");
  std::stringstream text;
  text << in.rdbuf();
  return compiled(text.str());
}

ChatRequest chat(std::string_view messages) {
  ChatRequest request;
  request.messages = *Json::parse(messages);
  request.bos_token = "<s>";
  request.eos_token = "</s>";
  return request;
}

std::string rendered(const ChatTemplate& t, const ChatRequest& request) {
  const auto out = render_chat(t, request);
  return out ? join_segments(*out) : "error: " + out.error().message;
}

constexpr const char* kCall =
    R"([{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"123456789","type":"function","function":{"name":"f","arguments":"{\"a\":  1}"}}]}])";

TEST(Messages, developer_is_system_unless_the_template_knows_it) {
  const std::string roles = "{% for m in messages %}{{ m.role }} {% endfor %}";
  const ChatRequest request = chat(R"([{"role":"developer","content":"d"}])");
  EXPECT_EQ(rendered(compiled(roles), request), "system ");
  EXPECT_EQ(rendered(compiled(roles + "{# developer #}"), request), "developer ");
}

TEST(Messages, parts_become_text_unless_the_template_goes_through_them) {
  const ChatRequest request =
      chat(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])");
  EXPECT_EQ(rendered(compiled("{{ messages[0].content + '!' }}"), request), "a\nb!");
  EXPECT_EQ(rendered(compiled("{{ messages[0].content }}"), request), "a\nb");
  EXPECT_EQ(rendered(compiled("{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in "
                              "m.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}"),
                     request),
            "<a><b>");
}

TEST(Messages, a_picture_is_refused_by_a_template_for_text) {
  EXPECT_THAT(rendered(compiled("{{ messages[0].content + '!' }}"),
                       chat(R"([{"role":"user","content":[{"type":"image_url"}]}])")),
              testing::HasSubstr("image_url"));
}

TEST(Messages, arguments_are_objects_where_the_template_writes_json) {
  const ChatTemplate wants_object = compiled(
      "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments|tojson }}{% endfor %}{% endfor "
      "%}");
  EXPECT_EQ(rendered(wants_object, chat(kCall)), "{\"a\": 1}");
  const ChatTemplate wants_items = compiled(
      "{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments|items %}{{ k }}={{ "
      "v }}{% endfor %}{% endfor %}{% endfor %}");
  EXPECT_EQ(rendered(wants_items, chat(kCall)), "a=1");
}

TEST(Messages, arguments_are_strings_where_the_template_joins_text) {
  const ChatTemplate wants_string = compiled(
      "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'args: ' + c.function.arguments }}{% endfor %}{% "
      "endfor %}");
  EXPECT_EQ(rendered(wants_string, chat(kCall)), "args: {\"a\":  1}");
  EXPECT_EQ(rendered(wants_string,
                     chat(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}])")),
            "args: {\"a\":1}");
}

TEST(Messages, arguments_that_are_no_json_stay_text) {
  const ChatTemplate wants_object = compiled(
      "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments|tojson }}{% endfor %}{% endfor "
      "%}");
  EXPECT_EQ(rendered(wants_object,
                     chat(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{broken"}}]}])")),
            "\"{broken\"");
  EXPECT_EQ(
      rendered(wants_object, chat(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":""}}]}])")),
      "{}");
}

TEST(Messages, null_content_is_empty_where_it_would_fail_or_print_none) {
  EXPECT_EQ(rendered(compiled("{% for m in messages %}[{{ m.content + '' }}]{% endfor %}"), chat(kCall)), "[u][]");
  EXPECT_EQ(rendered(compiled("{% for m in messages %}[{{ m.content }}]{% endfor %}"), chat(kCall)), "[u][]");
  EXPECT_EQ(rendered(compiled("{% for m in messages %}{{ 'null' if m.content is none else m.content }}{% endfor %}"),
                     chat(kCall)),
            "unull");
}

TEST(Messages, reasoning_is_there_under_each_name) {
  EXPECT_EQ(
      rendered(compiled("{{ messages[0].reasoning_content }}{{ messages[0].thinking }}{{ messages[0].reasoning }}"),
               chat(R"([{"role":"assistant","content":"x","reasoning":"r"}])")),
      "rrr");
}

TEST(Messages, bare_functions_are_wrapped_and_no_tools_are_none) {
  ChatRequest request = chat(R"([{"role":"user","content":"u"}])");
  const ChatTemplate t =
      compiled("{{ tools is none }}{% for t in tools or [] %}{{ t.type }}:{{ t.function.name }}{% endfor %}");
  EXPECT_EQ(rendered(t, request), "True");
  request.tools = Json(Json::Array{});
  EXPECT_EQ(rendered(t, request), "True");
  request.tools = *Json::parse(R"([{"name":"f","parameters":{}},{"type":"function","function":{"name":"g"}}])");
  EXPECT_EQ(rendered(t, request), "Falsefunction:ffunction:g");
}

TEST(Messages, errors_keep_the_words_of_the_template) {
  EXPECT_EQ(rendered(compiled("{{ raise_exception('Only user roles, please!') }}"),
                     chat(R"([{"role":"user","content":null}])")),
            "error: Only user roles, please!");
  for (const char* wrong : {"1", "{}", "[1]", R"([{"content":"x"}])", R"([{"role":3}])"})
    EXPECT_THAT(rendered(compiled("x"), chat(wrong)), testing::StartsWith("error: messages")) << wrong;
}

TEST(Messages, variables_reach_the_template_but_replace_nothing_of_the_chat) {
  ChatRequest request = chat(R"([{"role":"user","content":"u"}])");
  request.variables =
      *Json::parse(R"({"enable_thinking":false,"messages":[],"eos_token":"x","add_generation_prompt":false})");
  EXPECT_EQ(rendered(compiled("{{ enable_thinking }}{{ messages|length }}{{ eos_token }}{{ add_generation_prompt }}"),
                     request),
            "False1</s>True");
}

TEST(Messages, published_templates_get_calls_in_the_form_they_know) {
  ChatRequest request = chat(
      R"([{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"123456789","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},{"role":"tool","tool_call_id":"123456789","content":"r"}])");
  request.tools = *Json::parse(
      R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}}}}])");
  for (const char* name : {"Qwen-Qwen3-0.6B", "mistralai-Mistral-Nemo-Instruct-2407", "openai-gpt-oss-120b"}) {
    const std::string text = rendered(published(name), request);
    EXPECT_THAT(text, testing::HasSubstr("{\"a\": 1}")) << name << ": " << text;
    EXPECT_THAT(text, testing::Not(testing::HasSubstr("None"))) << name;
  }
}

TEST(FallbackTemplates, are_chosen_by_control_tokens_and_keep_users_out_of_them) {
  const std::set<std::string, std::less<>> families[] = {{"<|im_start|>", "<|im_end|>"},
                                                         {"<|start_header_id|>", "<|eot_id|>"},
                                                         {"<|channel|>", "<|message|>", "<|start|>", "<|end|>"},
                                                         {"<｜User｜>", "<｜Assistant｜>"},
                                                         {"<start_of_turn>", "<end_of_turn>"},
                                                         {"<|begin_of_sentence|>", "<|end_of_sentence|>"},
                                                         {"[INST]", "[/INST]"},
                                                         {"<|user|>", "<|assistant|>", "<|end|>"}};
  std::set<std::string_view> sources;
  for (const auto& tokens : families) {
    const auto source = fallback_chat_template([&](std::string_view token) { return tokens.contains(token); });
    ASSERT_TRUE(source) << *tokens.begin();
    sources.insert(*source);
    const ChatRequest request = chat(
        R"([{"role":"system","content":"SYS"},{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":"three"}])");
    const auto out = render_chat(compiled(*source), request);
    ASSERT_TRUE(out) << out.error().message;
    const std::string text = join_segments(*out);
    for (const char* words : {"SYS", "one", "two", "three"}) EXPECT_EQ(text.find(words), text.rfind(words)) << text;
    EXPECT_LT(text.find("SYS"), text.find("three")) << text;
    for (const Segment& s : *out)
      for (const std::string& token : tokens) EXPECT_FALSE(s.from_user && s.text.find(token) != std::string::npos);
    EXPECT_TRUE(std::any_of(tokens.begin(), tokens.end(), [&](const std::string& t) {
      return text.find(t) != std::string::npos;
    })) << text;
  }
  EXPECT_EQ(sources.size(), std::size(families));
  EXPECT_FALSE(fallback_chat_template([](std::string_view) { return false; }));
}

TEST(FallbackTemplates, chatml_is_as_published) {
  const auto source = fallback_chat_template([](std::string_view token) { return token.starts_with("<|im_"); });
  ASSERT_TRUE(source);
  EXPECT_EQ(rendered(compiled(*source), chat(R"([{"role":"system","content":"s"},{"role":"user","content":"u"}])")),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n");
}

TEST(FallbackTemplates, llama3_and_harmony_end_with_the_turn_of_the_assistant) {
  const auto llama = fallback_chat_template(
      [](std::string_view token) { return token == "<|start_header_id|>" || token == "<|eot_id|>"; });
  EXPECT_EQ(
      rendered(compiled(*llama), chat(R"([{"role":"user","content":" u "}])")),
      "<s><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  const auto harmony =
      fallback_chat_template([](std::string_view token) { return token == "<|channel|>" || token == "<|message|>"; });
  EXPECT_THAT(rendered(compiled(*harmony), chat(R"([{"role":"user","content":"u"}])")),
              testing::EndsWith("<|start|>user<|message|>u<|end|><|start|>assistant"));
}

}  // namespace
}  // namespace quern
