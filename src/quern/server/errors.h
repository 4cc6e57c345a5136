// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/http.h"

namespace quern {

/// Whose shape an error has. Told by the path: below /v1/messages Anthropic's, below /api/ Ollama's, else OpenAI's.
enum class Dialect : uint8_t { openai, anthropic, ollama };
Dialect dialect_of(std::string_view path);

/// A prompt that does not fit. Each dialect says so in the words that its clients look for.
struct Overflow {
  int64_t prompt_tokens = 0;
  int64_t context_tokens = 0;  ///< of one request
};

/// Why a request is not answered.
struct Refusal {
  Error error;
  std::optional<Overflow> overflow = {};
  int status = 0;          ///< in place of the one that follows from the error's code
  std::string param = {};  ///< the field at fault; empty: the one that leads `error.message`, if any does

  Refusal(Error e) : error(std::move(e)) {}  // NOLINT(google-explicit-constructor)
  explicit Refusal(Overflow o);
};

/// 400, 404, 501 (what is not built), 503 (memory, an end), 500.
int status_of(const Refusal& refusal);

/// The object of an error in a dialect's shape, as it stands in a body or in an event of a stream.
Json error_json(Dialect dialect, const Refusal& refusal);
/// The same for refusals of the server itself: "type" follows from the status.
Json error_json(Dialect dialect, int status, std::string_view message);

/// A whole answer. 429 and 503 say Retry-After.
HttpResponse error_response(std::string_view path, const Refusal& refusal);
HttpResponse error_response(std::string_view path, int status, std::string_view message);

/// The answer of an endpoint that refuses.
void write_error(ResponseWriter& writer, std::string_view path, const Refusal& refusal);

}  // namespace quern
