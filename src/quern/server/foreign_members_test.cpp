// SPDX-License-Identifier: Apache-2.0
// Members that a route does not know, or of types that it does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "quern/server/endpoint.h"
#include "quern/server/router.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

/// A body of each route that takes one.
const std::pair<std::string_view, std::string_view> kBodies[] = {
    {"/api/chat", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"/api/embed", R"({"input":"Hi"})"},
    {"/api/embeddings", R"({"prompt":"Hi"})"},
    {"/api/generate", R"({"prompt":"Hi"})"},
    {"/api/pull", R"({"model":"test-model"})"},
    {"/api/show", R"({"model":"test-model"})"},
    {"/completion", R"({"prompt":"Hi"})"},
    {"/detokenize", R"({"tokens":[1]})"},
    {"/infill", R"({"input_prefix":"a","input_suffix":"b"})"},
    {"/tokenize", R"({"content":"Hi"})"},
    {"/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"/v1/completions", R"({"prompt":"Hi"})"},
    {"/v1/embeddings", R"({"input":"Hi"})"},
    {"/v1/messages", R"({"max_tokens":1,"messages":[{"role":"user","content":"Hi"}]})"},
    {"/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"Hi"}]})"},
    {"/v1/responses", R"({"input":[{"role":"user","content":"Hi"}]})"},
    {"/v1/responses/input_tokens", R"({"input":[{"role":"user","content":"Hi"}]})"},
};

/// The body with one more member: at its top, or in its first message.
std::vector<Json> with_member(const Json& body, std::string_view name, const Json& value) {
  std::vector<Json> out = {body};
  out[0].set(std::string(name), value);
  for (const std::string list : {"messages", "input"}) {
    const Json* messages = body.find(list);
    if (!messages || !messages->is_array()) continue;
    Json::Array changed = messages->array();
    changed[0].set(std::string(name), value);
    out.push_back(body);
    out.back().set(list, std::move(changed));
  }
  return out;
}

TEST(ForeignMembers, no_member_of_a_wrong_type_is_a_fault_of_the_server) {
  std::set<std::string_view> names = {"role", "content", "type", "tool_calls", "thinking", "reasoning_content"};
  for (const Endpoint* endpoint : endpoints())
    for (const FieldSpec& spec : endpoint->fields) names.insert(spec.name);
  const Json values = *Json::parse(R"([null,true,1,-1.5,"","x",[],[1],["x"],[{}],{},{"type":"x"}])");
  testing::TestServer server;
  for (const Endpoint* endpoint : endpoints()) {
    if (endpoint->fields.empty()) continue;
    const auto* known =
        std::ranges::find(kBodies, endpoint->path, &std::pair<std::string_view, std::string_view>::first);
    ASSERT_NE(known, std::end(kBodies)) << endpoint->path;
    const Json body = *Json::parse(known->second);
    for (const std::string_view name : names)
      for (const Json& value : values.array())
        for (const Json& changed : with_member(body, name, value)) {
          const auto answer = server.post(endpoint->path, changed.dump());
          server.model->forget();
          EXPECT_NE(answer->response.status, 500) << endpoint->path << " " << changed.dump() << answer->text();
          EXPECT_TRUE(answer->ended);
        }
  }
}

bool lists(const Endpoint& endpoint, std::string_view name) {
  return std::ranges::find(endpoint.fields, name, &FieldSpec::name) != endpoint.fields.end();
}

TEST(ForeignMembers, what_other_routes_list_changes_nothing) {
  std::set<std::string_view> names;
  for (const Endpoint* endpoint : endpoints())
    for (const FieldSpec& spec : endpoint->fields) names.insert(spec.name);
  const Json values = *Json::parse(R"([true,-1.5,"required",[{"function":{"name":"f"}}],{"type":"x"}])");
  testing::TestServer server;
  for (const auto& [path, text] : kBodies) {
    const auto* endpoint = *std::ranges::find(endpoints(), path, [](const Endpoint* e) { return e->path; });
    for (const std::string_view name : names) {
      if (lists(*endpoint, name)) continue;
      for (const Json& value : values.array()) {
        const Json body = with_member(*Json::parse(text), name, value)[0];
        const auto answer = server.post(path, body.dump());
        server.model->forget();
        EXPECT_EQ(answer->response.status, 200) << path << " " << body.dump() << answer->text();
      }
    }
  }
}

TEST(ForeignMembers, tools_forms_and_stops_of_another_dialect_are_ignored) {
  struct Row {
    std::string_view path, member;
  };
  const std::string_view tools = R"("tools":[{"type":"function","function":{"name":"f"}}])",
                         choice = R"("tool_choice":"required")", format = R"("response_format":{"type":"json_object"})";
  testing::TestServer server;
  for (const Row& row : {Row{"/v1/completions", tools}, Row{"/v1/completions", choice}, Row{"/completion", tools},
                         Row{"/completion", choice}, Row{"/completion", format}, Row{"/infill", tools},
                         Row{"/infill", choice}, Row{"/infill", format}, Row{"/api/generate", tools},
                         Row{"/v1/messages", R"("stop":5)"}, Row{"/v1/messages", R"("stop":"Hello")"}}) {
    const auto* known = std::ranges::find(kBodies, row.path, &std::pair<std::string_view, std::string_view>::first);
    ASSERT_NE(known, std::end(kBodies)) << row.path;
    std::string body(known->second);
    body.insert(body.size() - 1, "," + std::string(row.member));
    const auto answer = server.post(row.path, body);
    EXPECT_EQ(answer->response.status, 200) << row.path << " " << body << answer->text();
    ASSERT_EQ(server.model->requests.size(), 1U) << row.path;
    EXPECT_TRUE(server.model->requests[0].stops.empty());
    server.model->forget();
  }
}

}  // namespace
}  // namespace quern
