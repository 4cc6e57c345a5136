// SPDX-License-Identifier: Apache-2.0
// GET /openapi.json: the routes as OpenAPI 3.1, from the same tables that check them.
#include <algorithm>
#include <cctype>

#include "quern/server/endpoint.h"
#include "quern/server/errors.h"
#include "quern/server/router.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Json text_schema() { return Json::Object{{"type", "string"}}; }
Json nullable_text() { return Json::Object{{"type", Json::Array{"string", "null"}}}; }
Json object_of(Json properties, Json::Array required) {
  return Json::Object{{"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}

std::string_view error_name_of(Dialect dialect) {
  static constexpr std::string_view names[] = {"OpenAiError", "AnthropicError", "OllamaError"};
  return names[static_cast<size_t>(dialect)];
}

Json error_schema(Dialect dialect) {
  const auto of_error = [](Json error) {
    return object_of(Json::Object{{"error", std::move(error)}}, Json::Array{"error"});
  };
  switch (dialect) {
    case Dialect::openai:
      return of_error(object_of(Json::Object{{"message", text_schema()},
                                             {"type", text_schema()},
                                             {"param", nullable_text()},
                                             {"code", nullable_text()}},
                                Json::Array{"message", "type", "param", "code"}));
    case Dialect::anthropic: {
      Json error =
          object_of(Json::Object{{"type", text_schema()}, {"message", text_schema()}}, Json::Array{"type", "message"});
      return object_of(Json::Object{{"type", Json::Object{{"const", "error"}}}, {"error", std::move(error)}},
                       Json::Array{"type", "error"});
    }
    case Dialect::ollama:
      return of_error(text_schema());
  }
  return {};
}

Json json_content(Json schema) {
  return Json::Object{{"application/json", Json::Object{{"schema", std::move(schema)}}}};
}

struct StatusText {
  std::string_view status, text;
};
constexpr StatusText kStatusTexts[] = {
    {"400", "A field is wrong, or the prompt does not fit."},
    {"401", "The key is missing or wrong."},
    {"403", "The host or origin is not allowed."},
    {"404", "No such thing."},
    {"405", "Another method is meant."},
    {"408", "The request did not arrive in time."},
    {"413", "The body is too large."},
    {"415", "The body is not JSON."},
    {"429", "Too many requests wait."},
    {"431", "The headers are too large."},
    {"500", "The server failed."},
    {"501", "A field asks for what is not built."},
    {"503", "The server is out of memory, or ends."},
};

bool streams(const Endpoint& endpoint) {
  return std::any_of(endpoint.fields.begin(), endpoint.fields.end(),
                     [](const FieldSpec& spec) { return spec.name == "stream"; });
}

Json success(const Endpoint& endpoint) {
  Json content = json_content(Json::Object{});
  if (endpoint.path == "/metrics" || endpoint.path == "/") content = Json();
  if (streams(endpoint))  // a schema would be that of one event, which this version of OpenAPI cannot say
    content.set(dialect_of(endpoint.path) == Dialect::ollama ? "application/x-ndjson" : "text/event-stream",
                Json::Object{});
  Json out(Json::Object{{"description", "The answer."}});
  if (!content.is_null()) out.set("content", std::move(content));
  return out;
}

Json responses(const Endpoint& endpoint) {
  Json out(Json::Object{{"200", success(endpoint)}});
  const std::string reference = fmt::format("#/components/schemas/{}", error_name_of(dialect_of(endpoint.path)));
  for (const StatusText& row : kStatusTexts)
    out.set(row.status,
            Json::Object{{"description", row.text}, {"content", json_content(Json::Object{{"$ref", reference}})}});
  return out;
}

/// "POST /v1/chat/completions" as a name: post_v1_chat_completions.
std::string operation_id(const Endpoint& endpoint) {
  std::string out;
  for (const char c : fmt::format("{}{}", endpoint.method, endpoint.path)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte))
      out += static_cast<char>(std::tolower(byte));
    else if (!out.empty() && out.back() != '_')
      out += '_';
  }
  while (out.ends_with('_')) out.pop_back();
  return out;
}

Json operation(const Endpoint& endpoint) {
  Json out(Json::Object{{"summary", endpoint.summary}, {"operationId", operation_id(endpoint)}});
  if (endpoint.path.find("{id}") != endpoint.path.npos)
    out.set("parameters",
            Json::Array{Json::Object{{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", text_schema()}}});
  if (!endpoint.fields.empty())
    out.set("requestBody", Json::Object{{"required", true}, {"content", json_content(fields_schema(endpoint.fields))}});
  return std::move(out.set("responses", responses(endpoint)));
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

Json document(std::string_view version) {
  Json paths(Json::Object{});
  for (const Endpoint* endpoint : endpoints()) {
    const Json* found = paths.find(endpoint->path);
    Json item = found ? *found : Json(Json::Object{});
    item.set(lower(endpoint->method), operation(*endpoint));
    paths.set(endpoint->path, std::move(item));
  }
  Json schemas(Json::Object{});
  for (const Dialect dialect : {Dialect::openai, Dialect::anthropic, Dialect::ollama})
    schemas.set(error_name_of(dialect), error_schema(dialect));
  Json bearer(Json::Object{{"type", "http"}, {"scheme", "bearer"}});
  Json key(Json::Object{{"type", "apiKey"}, {"name", "x-api-key"}, {"in", "header"}});
  return Json::Object{
      {"openapi", "3.1.0"},
      {"info", Json::Object{{"title", "Quern"}, {"version", version}}},
      {"paths", std::move(paths)},
      {"components",
       Json::Object{{"schemas", std::move(schemas)},
                    {"securitySchemes", Json::Object{{"bearer", std::move(bearer)}, {"key", std::move(key)}}}}},
      {"security",
       Json::Array{Json::Object{}, Json::Object{{"bearer", Json::Array{}}}, Json::Object{{"key", Json::Array{}}}}}};
}

void handle(Exchange&& exchange, Services& services) {
  exchange.writer->respond({.body = document(services.version).dump()});
}

}  // namespace

extern const Endpoint endpoint_openapi;
const Endpoint endpoint_openapi = {
    .method = "GET",
    .path = "/openapi.json",
    .summary = "This description.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
