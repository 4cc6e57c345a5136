// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>

#include "quern/server/endpoint.h"
#include "quern/server/services.h"

namespace quern {
namespace {

/// A value of the query as it stands there: those asked for here need no decoding. Empty where it is absent.
std::string_view query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=')
      return pair.substr(name.size() + 1);
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return {};
}

Result<size_t> limit_of(std::string_view query) {
  const std::string_view text = query_value(query, "limit");
  if (text.empty()) return size_t{20};
  size_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc() || end != text.data() + text.size() || limit < 1 || limit > 100)
    return make_error(ErrorCode::invalid_argument, "limit: expected an integer from 1 to 100, found {}",
                      short_quote(text));
  return limit;
}

/// The page that the query asks for: `order` (desc, the default, or asc), `after` an item's id, `limit`.
Result<Json> page(Json::Array items, std::string_view query) {
  QUERN_TRY(const size_t limit, limit_of(query));
  const std::string_view order = query_value(query, "order"), after = query_value(query, "after");
  if (!order.empty() && order != "asc" && order != "desc")
    return make_error(ErrorCode::invalid_argument, "order: expected asc or desc, found {}", short_quote(order));
  if (order != "asc") std::reverse(items.begin(), items.end());
  const auto id_of = [](const Json& item) {
    const Json* id = field(item, "id");
    return id ? *id : Json();
  };
  auto first = items.begin();
  if (!after.empty()) {
    first = std::find_if(items.begin(), items.end(), [&](const Json& item) { return id_of(item) == Json(after); });
    if (first == items.end())
      return make_error(ErrorCode::invalid_argument, "after: expected the id of an item, found {}", short_quote(after));
    ++first;
  }
  const auto left = static_cast<size_t>(items.end() - first);
  Json::Array data(first, first + static_cast<std::ptrdiff_t>(std::min(limit, left)));
  Json first_id = data.empty() ? Json() : id_of(data.front()), last_id = data.empty() ? Json() : id_of(data.back());
  return Json(Json::Object{{"object", "list"},
                           {"data", std::move(data)},
                           {"first_id", std::move(first_id)},
                           {"last_id", std::move(last_id)},
                           {"has_more", left > limit}});
}

Result<Json> list(const Exchange& exchange, Services& services) {
  const auto record = services.responses.get(exchange.owner, exchange.tail);
  const Json* items = record ? field(*record, "input") : nullptr;
  if (!items || !items->is_array())
    return make_error(ErrorCode::not_found, "response_id: expected a stored response, found no {}",
                      short_quote(exchange.tail));
  return page(items->array(), exchange.http.query);
}

void handle(Exchange&& exchange, Services& services) {
  const auto found = list(exchange, services);
  if (!found) return write_error(*exchange.writer, exchange.http.path, found.error());
  HttpResponse answer;
  answer.body = found->dump();
  exchange.writer->respond(std::move(answer));
}

}  // namespace

extern const Endpoint endpoint_response_input_items;
const Endpoint endpoint_response_input_items = {
    .method = "GET",
    .path = "/v1/responses/{id}/input_items",
    .summary = "What a stored response was asked.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
