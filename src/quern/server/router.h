// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "quern/server/endpoint.h"
#include "quern/server/http.h"
#include "quern/server/services.h"

namespace quern {

/// Every endpoint there is.
std::span<const Endpoint* const> endpoints();

/// The endpoint of a method and a path. The path decides first, whatever methods it has: those without `{id}` go before
/// the others; an `{id}` at the end takes the rest of the path (names of models may hold slashes), one in the middle a
/// single segment. HEAD goes where GET goes.
struct Route {
  const Endpoint* endpoint = nullptr;  ///< null: none
  std::string tail;                    ///< what stands in place of `{id}`
  std::string allow;                   ///< methods that the path has, "GET, DELETE"; empty: no such path
};
Route find_route(std::span<const Endpoint* const> table, std::string_view method, std::string_view path);

/// What can be refused before a body is read: 404, 405 with Allow, 415.
std::optional<HttpResponse> check_route(const HttpRequest& head);

/// Answers a whole request: finds its endpoint, parses and checks the body on a `compute` thread and calls the endpoint
/// there, when its owner's turn comes and unless its client has gone by then. Returns at once, with a 503 where too
/// many wait. `owner`: of the key that was used. Where memory runs out the answer is a 503, where anything else is
/// thrown a 500; where there is no memory for an answer either, `writer` is dropped.
void route(HttpRequest request, std::string owner, std::shared_ptr<ResponseWriter> writer, Services& services);

}  // namespace quern
