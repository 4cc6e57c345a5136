// SPDX-License-Identifier: Apache-2.0
#include "quern/server/errors.h"

#include <algorithm>

namespace quern {
namespace {

constexpr std::string_view kRetrySeconds = "2";

/// What the dialects call a status. `code`: OpenAI's "error.code", null where empty.
struct StatusWords {
  int status;
  std::string_view openai, code, anthropic;
};
constexpr StatusWords kStatuses[] = {
    {400, "invalid_request_error", "", "invalid_request_error"},
    {401, "authentication_error", "invalid_api_key", "authentication_error"},
    {403, "permission_error", "", "permission_error"},
    {404, "invalid_request_error", "not_found", "not_found_error"},
    {413, "invalid_request_error", "request_too_large", "request_too_large"},
    {429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"},
    {500, "server_error", "", "api_error"},
    {501, "not_supported_error", "not_supported", "api_error"},
    {503, "server_error", "overloaded", "overloaded_error"},
};
const StatusWords& words_of(int status) {
  for (const StatusWords& words : kStatuses)
    if (words.status == status) return words;
  return words_of(status < 500 ? 400 : 500);
}

Json json_or_null(std::string_view text) { return text.empty() ? Json() : Json(text); }

/// Messages lead with the field that is wrong: "messages[0].role: expected ...".
std::string_view leading_field(std::string_view message) {
  const size_t end = message.find(": ");
  if (end == message.npos || end == 0) return {};
  const std::string_view lead = message.substr(0, end);
  const auto in_path = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '[' || c == ']';
  };
  return std::all_of(lead.begin(), lead.end(), in_path) ? lead : std::string_view();
}

std::string overflow_words(Dialect dialect, const Overflow& o) {
  switch (dialect) {
    case Dialect::openai:
      return fmt::format(
          "This model's maximum context length is {} tokens. However, you requested {} tokens ({} in the prompt, at "
          "least 1 for the answer). Please shorten the prompt.",
          o.context_tokens, o.prompt_tokens + 1, o.prompt_tokens);
    case Dialect::anthropic:
      // One more than the prompt, for the answer: a prompt of exactly the context's length does not fit either.
      return fmt::format("prompt is too long: {} tokens > {} maximum", std::max(o.prompt_tokens, o.context_tokens + 1),
                         o.context_tokens);
    case Dialect::ollama:
      return fmt::format("the prompt of {} tokens is longer than the context length of {} tokens allows",
                         o.prompt_tokens, o.context_tokens);
  }
  return {};
}

Json openai_error(std::string_view message, const StatusWords& words, std::string_view param, std::string_view code) {
  return Json::Object{
      {"message", message}, {"type", words.openai}, {"param", json_or_null(param)}, {"code", json_or_null(code)}};
}

Json in_shape(Dialect dialect, const StatusWords& words, std::string_view message, std::string_view param,
              std::string_view code) {
  switch (dialect) {
    case Dialect::openai:
      return Json::Object{{"error", openai_error(message, words, param, code)}};
    case Dialect::anthropic:
      return Json::Object{{"type", "error"}, {"error", Json::Object{{"type", words.anthropic}, {"message", message}}}};
    case Dialect::ollama:
      return Json::Object{{"error", message}};
  }
  return {};
}

HttpResponse json_response(int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump();
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", kRetrySeconds);
  return response;
}

}  // namespace

Dialect dialect_of(std::string_view path) {
  const auto below = [&](std::string_view root) {
    return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
  };
  if (below("/v1/messages")) return Dialect::anthropic;
  if (below("/api")) return Dialect::ollama;
  return Dialect::openai;
}

Refusal::Refusal(Overflow o)
    : error(make_error(ErrorCode::invalid_argument, "prompt: {} tokens, the context of one request holds {}",
                       o.prompt_tokens, o.context_tokens)),
      overflow(o) {}

int status_of(const Refusal& refusal) {
  if (refusal.status != 0) return refusal.status;
  switch (refusal.error.code) {
    case ErrorCode::invalid_argument:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::unsupported:
      return 501;
    case ErrorCode::out_of_memory:
    case ErrorCode::cancelled:  // the server ends
      return 503;
    case ErrorCode::corrupt_data:  // of a model's file: what clients send wrong is invalid_argument
    case ErrorCode::internal:
      return 500;
  }
  return 500;
}

Json error_json(Dialect dialect, const Refusal& refusal) {
  const int status = status_of(refusal);
  const StatusWords& words = words_of(status);
  if (!refusal.overflow) {
    const std::string& message = refusal.error.message;
    const std::string_view param = refusal.param.empty() ? leading_field(message) : refusal.param;
    return in_shape(dialect, words, message, param, words.code);
  }
  const Overflow& o = *refusal.overflow;
  const std::string message = overflow_words(dialect, o);
  if (dialect != Dialect::openai) return in_shape(dialect, words, message, {}, {});
  Json error =
      openai_error(message, words, refusal.param.empty() ? "prompt" : refusal.param, "context_length_exceeded");
  error.set("n_prompt_tokens", o.prompt_tokens).set("n_ctx", o.context_tokens);
  return Json::Object{{"error", std::move(error)}};
}

Json error_json(Dialect dialect, int status, std::string_view message) {
  const StatusWords& words = words_of(status);
  return in_shape(dialect, words, message, {}, words.status == status ? words.code : std::string_view());
}

HttpResponse error_response(std::string_view path, const Refusal& refusal) {
  return json_response(status_of(refusal), error_json(dialect_of(path), refusal));
}

HttpResponse error_response(std::string_view path, int status, std::string_view message) {
  return json_response(status, error_json(dialect_of(path), status, message));
}

void write_error(ResponseWriter& writer, std::string_view path, const Refusal& refusal) {
  writer.respond(error_response(path, refusal));
}

}  // namespace quern
