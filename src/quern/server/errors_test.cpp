// SPDX-License-Identifier: Apache-2.0
#include "quern/server/errors.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace quern {
namespace {

bool says_retry(const HttpResponse& response) {
  return std::any_of(response.headers.begin(), response.headers.end(),
                     [](const auto& header) { return header.first == "Retry-After"; });
}
Error wrong(ErrorCode code, std::string message) { return {code, std::move(message)}; }

TEST(Errors, path_tells_the_dialect) {
  EXPECT_EQ(dialect_of("/v1/chat/completions"), Dialect::openai);
  EXPECT_EQ(dialect_of("/v1/messages"), Dialect::anthropic);
  EXPECT_EQ(dialect_of("/v1/messages/count_tokens"), Dialect::anthropic);
  EXPECT_EQ(dialect_of("/v1/messagesx"), Dialect::openai);
  EXPECT_EQ(dialect_of("/api/chat"), Dialect::ollama);
  EXPECT_EQ(dialect_of("/apix"), Dialect::openai);
}

TEST(Errors, each_dialect_has_its_shape) {
  const Error error = wrong(ErrorCode::invalid_argument, "messages[0].role: expected a text, found 5");
  EXPECT_EQ(error_json(Dialect::openai, error).dump(),
            R"({"error":{"message":"messages[0].role: expected a text, found 5","type":"invalid_request_error",)"
            R"("param":"messages[0].role","code":null}})");
  EXPECT_EQ(error_json(Dialect::anthropic, error).dump(),
            R"({"type":"error","error":{"type":"invalid_request_error",)"
            R"("message":"messages[0].role: expected a text, found 5"}})");
  EXPECT_EQ(error_json(Dialect::ollama, error).dump(), R"({"error":"messages[0].role: expected a text, found 5"})");
}

TEST(Errors, only_the_path_of_a_field_is_a_param) {
  const Error words = wrong(ErrorCode::invalid_argument, "Roles must alternate: user first");
  EXPECT_TRUE(error_json(Dialect::openai, words).find("error")->find("param")->is_null());
}

TEST(Errors, overflow_has_the_words_of_each_dialect) {
  const Refusal refusal(Overflow{.prompt_tokens = 1300, .context_tokens = 1024});
  EXPECT_EQ(status_of(refusal), 400);
  EXPECT_EQ(error_json(Dialect::openai, refusal).dump(),
            R"({"error":{"message":"This model's maximum context length is 1024 tokens. However, you requested 1301 )"
            R"(tokens (1300 in the prompt, at least 1 for the answer). Please shorten the prompt.",)"
            R"("type":"invalid_request_error","param":"prompt","code":"context_length_exceeded",)"
            R"("n_prompt_tokens":1300,"n_ctx":1024}})");
  EXPECT_EQ(error_json(Dialect::anthropic, refusal).find("error")->find("message")->string(),
            "prompt is too long: 1300 tokens > 1024 maximum");
  EXPECT_EQ(error_json(Dialect::ollama, refusal).dump(),
            R"({"error":"the prompt of 1300 tokens is longer than the context length of 1024 tokens allows"})");
}

TEST(Errors, codes_become_statuses) {
  const struct {
    ErrorCode code;
    int status;
    std::string_view openai, anthropic;
  } rows[] = {
      {ErrorCode::invalid_argument, 400, "invalid_request_error", "invalid_request_error"},
      {ErrorCode::not_found, 404, "invalid_request_error", "not_found_error"},
      {ErrorCode::unsupported, 501, "not_supported_error", "api_error"},
      {ErrorCode::out_of_memory, 503, "server_error", "overloaded_error"},
      {ErrorCode::cancelled, 503, "server_error", "overloaded_error"},
      {ErrorCode::corrupt_data, 500, "server_error", "api_error"},
      {ErrorCode::internal, 500, "server_error", "api_error"},
  };
  for (const auto& row : rows) {
    const HttpResponse openai = error_response("/v1/x", wrong(row.code, "x"));
    EXPECT_EQ(openai.status, row.status);
    EXPECT_EQ(Json::parse(openai.body)->find("error")->find("type")->string(), row.openai);
    const HttpResponse anthropic = error_response("/v1/messages", wrong(row.code, "x"));
    EXPECT_EQ(Json::parse(anthropic.body)->find("error")->find("type")->string(), row.anthropic);
    EXPECT_EQ(says_retry(openai), row.status == 503);
  }
}

TEST(Errors, the_server_itself_refuses_in_the_same_shapes) {
  EXPECT_EQ(error_response("/v1/messages", 401, "no key").body,
            R"({"type":"error","error":{"type":"authentication_error","message":"no key"}})");
  EXPECT_EQ(error_response("/v1/x", 431, "headers").body,
            R"({"error":{"message":"headers","type":"invalid_request_error","param":null,"code":null}})");
  EXPECT_EQ(error_response("/api/x", 413, "body").body, R"({"error":"body"})");
  EXPECT_TRUE(says_retry(error_response("/v1/x", 429, "queue")));
  EXPECT_FALSE(says_retry(error_response("/v1/x", 400, "field")));
}

}  // namespace
}  // namespace quern
