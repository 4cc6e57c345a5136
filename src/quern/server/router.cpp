// SPDX-License-Identifier: Apache-2.0
#include "quern/server/router.h"

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>

#include "quern/io/printable.h"
#include "quern/server/errors.h"

namespace quern {
namespace {

constexpr std::string_view kId = "{id}";
constexpr size_t kMostKeys = 10'000;  // of one object of a body

/// What stands for `{id}`; nothing where the path is another one.
std::optional<std::string_view> match(std::string_view pattern, std::string_view path) {
  const size_t at = pattern.find(kId);
  if (at == pattern.npos) return pattern == path ? std::optional(std::string_view()) : std::nullopt;
  const std::string_view before = pattern.substr(0, at), after = pattern.substr(at + kId.size());
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after))
    return std::nullopt;
  const std::string_view id = path.substr(before.size(), path.size() - before.size() - after.size());
  if (!after.empty() && id.find('/') != id.npos) return std::nullopt;
  return id;
}

/// Patterns with an `{id}` come after those without, then longer ones first: the more is said the better it fits.
bool fits_better(const Endpoint& a, const Endpoint& b) {
  const bool a_any = a.path.find(kId) != a.path.npos, b_any = b.path.find(kId) != b.path.npos;
  return a_any != b_any ? !a_any : a.path.size() > b.path.size();
}

/// Exactly one type, JSON: all others a page elsewhere can send without asking first.
bool is_json(const HttpHeaders& headers) {
  const std::string_view name = "content-type";
  if (std::count_if(headers.begin(), headers.end(), [&](const auto& h) { return h.first == name; }) != 1) return false;
  const std::string_view value = header(headers, name);
  std::string_view type = value.substr(0, value.find(';'));
  while (type.ends_with(' ') || type.ends_with('\t')) type.remove_suffix(1);
  return same_but_case(type, "application/json");
}

std::optional<HttpResponse> refuse(const Route& found, const HttpRequest& head) {
  if (!found.endpoint && found.allow.empty())
    return error_response(head.path, 404, fmt::format("no such route: {}", printable(head.path)));
  if (!found.endpoint) {
    HttpResponse response = error_response(head.path, 405,
                                           fmt::format("{}: expected the method {}, found {}", printable(head.path),
                                                       found.allow, printable(head.method, 20)));
    response.headers.emplace_back("Allow", found.allow);
    return response;
  }
  if (found.endpoint->method == "POST" && !is_json(head.headers))  // also where an endpoint reads no body
    return error_response(head.path, 415,
                          fmt::format("content-type: expected application/json, found {}",
                                      short_quote(header(head.headers, "content-type"))));
  return std::nullopt;
}

Result<Json> checked_body(const Endpoint& endpoint, std::string_view text) {
  if (endpoint.fields.empty()) return Json();
  auto body = Json::parse(text, /*unique_keys=*/true, kMostKeys);
  if (!body) return make_error(ErrorCode::invalid_argument, "the body is not valid: {}", body.error().message);
  QUERN_TRY_STATUS(check_fields(endpoint.fields, *body));
  return body;
}

/// A request on its way from the server's thread to its endpoint.
struct Job : std::enable_shared_from_this<Job> {
  Job(HttpRequest r, Route f, std::string o, std::shared_ptr<ResponseWriter> w)
      : request(std::move(r)), found(std::move(f)), owner(std::move(o)), writer(std::move(w)) {}

  HttpRequest request;
  Route found;
  std::string owner;
  std::shared_ptr<ResponseWriter> writer;
  const std::chrono::steady_clock::time_point came = std::chrono::steady_clock::now();
  Json body;                           // once it was checked
  std::shared_ptr<ServedModel> model;  // that was loaded for it; null: it was there

  /// The body. Where its model must be loaded first it waits for that without a thread.
  void begin(Services& services) {
    guarded([&] {
      auto checked = checked_body(*found.endpoint, request.body);
      request.body = {};
      if (!checked) return write_error(*writer, request.path, checked.error());
      body = *std::move(checked);
      if (!waits_for_model(services)) handle(services);
    });
  }

  bool waits_for_model(Services& services) {
    const auto is_model = [](const FieldSpec& spec) { return spec.name == "model"; };
    if (std::ranges::none_of(found.endpoint->fields, is_model) || !found.endpoint->loads(body)) return false;
    const Json* name = field(body, "model");
    return services.models.load_later(
        name ? std::string_view(name->string()) : std::string_view(),
        [job = shared_from_this(), &services](const auto& loaded) { job->go_on(loaded, services); });
  }

  void go_on(const Result<std::shared_ptr<ServedModel>>& loaded, Services& services) {
    guarded([&] {
      if (!loaded) return write_error(*writer, request.path, loaded.error());
      model = *loaded;
      queue([](Job& job, Services& s) { job.guarded([&] { job.handle(s); }); }, services);
    });
  }

  void handle(Services& services) {
    found.endpoint->handle(Exchange{request, std::move(body), found.tail, std::move(owner), writer, came}, services);
  }

  /// Does a step on a thread for it when its owner's turn comes, unless its client has gone by then.
  void queue(void (*step)(Job&, Services&), Services& services) {
    const bool reads = found.endpoint->reads;
    const auto& line = reads ? services.readers : services.requests;
    const uint64_t number = line->new_number();
    // First: once the step has begun, what it does when its client goes is its own matter.
    writer->on_gone([weak = std::weak_ptr(line), number] {
      if (const auto queue = weak.lock()) queue->drop(number);
    });
    const auto run = [job = shared_from_this(), step, &services] { step(*job, services); };
    if (!line->add(number, owner, run, reads ? services.executors.read : services.executors.compute))
      refuse(make_error(ErrorCode::out_of_memory, "too many requests wait at this time: try again later"));
  }

  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const std::bad_alloc&) {
      refuse(no_memory());
    } catch (const std::length_error&) {
      refuse(no_memory());
    } catch (...) {
      refuse(make_error(ErrorCode::internal, "the server failed at this request"));
    }
  }

  /// Where not even that can be said, the writer goes without an answer, and its connection with it.
  void refuse(const Error& error) noexcept {
    try {
      write_error(*writer, request.path, error);
    } catch (...) {
      writer.reset();
    }
  }

  static Error no_memory() {
    return make_error(ErrorCode::out_of_memory, "the server has no memory for this request now");
  }
};

}  // namespace

std::span<const Endpoint* const> endpoints() { return {endpoint_table, static_cast<size_t>(endpoint_table_size)}; }

Route find_route(std::span<const Endpoint* const> table, std::string_view method, std::string_view path) {
  const Endpoint* best = nullptr;
  for (const Endpoint* candidate : table)
    if (match(candidate->path, path) && (!best || fits_better(*candidate, *best))) best = candidate;
  Route route;
  if (!best) return route;
  route.tail = *match(best->path, path);
  for (const Endpoint* candidate : table) {
    if (candidate->path != best->path) continue;
    route.allow += fmt::format("{}{}", route.allow.empty() ? "" : ", ", candidate->method);
    if (candidate->method == (method == "HEAD" ? "GET" : method)) route.endpoint = candidate;
  }
  return route;
}

std::optional<HttpResponse> check_route(const HttpRequest& head) {
  return refuse(find_route(endpoints(), head.method, head.path), head);
}

void route(HttpRequest request, std::string owner, std::shared_ptr<ResponseWriter> writer, Services& services) {
  Route found = find_route(endpoints(), request.method, request.path);
  if (auto refused = refuse(found, request)) return writer->respond(*std::move(refused));
  const auto job = std::make_shared<Job>(std::move(request), std::move(found), std::move(owner), std::move(writer));
  if (job->found.endpoint->quick) return job->begin(services);
  job->queue([](Job& j, Services& s) { j.begin(s); }, services);
}

}  // namespace quern
