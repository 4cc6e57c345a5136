// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "quern/server/call.h"
#include "quern/server/fields.h"
#include "quern/server/http.h"

namespace quern {

struct Services;  // services.h: what a server has for its endpoints

/// One request at an endpoint.
struct Exchange {
  const HttpRequest& http;
  Json body;          ///< parsed and checked against the endpoint's fields; null where it takes none
  std::string tail;   ///< what stands in place of `{id}` in the path, percent-decoded; empty without
  std::string owner;  ///< of the key that was used; empty: none
  std::shared_ptr<ResponseWriter> writer;
  std::chrono::steady_clock::time_point came = std::chrono::steady_clock::now();  ///< before it waited for its model
};

/// A route: one per file `endpoint/<name>.endpoint.cpp` (with its dialect's conversions in files beside it), constant
/// `endpoint_<name>`. Routing, checking of fields, the OpenAPI document and docs come from these tables.
struct Endpoint {
  std::string_view method;  ///< "POST"
  std::string_view path;    ///< "/v1/responses/{id}/input_items": `{id}` is any one segment
  std::string_view summary;
  std::span<const FieldSpec> fields;  ///< of the body; empty: it takes none
  /// Runs on a thread that may take its time. Errors: `write_error` in the dialect's shape.
  void (*handle)(Exchange&& exchange, Services& services);
  bool quick = false;  ///< it runs on the server's thread instead, at once, however busy the others are
  bool reads = false;  ///< it may have to read models' files first: it runs where it holds up none but its like
  /// Whether a body, checked, needs the model that its field "model" names: it begins when that is in memory.
  bool (*loads)(const Json& body) = [](const Json&) { return true; };
};

extern const Endpoint* const endpoint_table[];
extern const int endpoint_table_size;

}  // namespace quern
