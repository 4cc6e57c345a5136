// SPDX-License-Identifier: Apache-2.0
#include "quern/server/server.h"

#include <optional>
#include <utility>

#include "quern/server/api_keys.h"
#include "quern/server/door.h"
#include "quern/server/errors.h"
#include "quern/server/response_store.h"
#include "quern/server/router.h"
#include "quern/server/workers.h"

namespace quern {
namespace {

using namespace std::chrono_literals;

/// From the signal to the end: half of it for answers to end by themselves.
constexpr auto kGrace = 9s, kPatience = 4s;
constexpr auto kWatch = 50ms;
/// Templates and tokenisation of one request at a time leave the cores to the engine; a second thread answers what is
/// quick meanwhile.
constexpr int kWorkers = 2;

/// The same error of a file: the command line is right, what it names is not as it should be.
Error of_file(Error error) {
  if (error.code == ErrorCode::invalid_argument) error.code = ErrorCode::internal;
  return error;
}

}  // namespace

struct Server::Impl {
  // Set while it serves.
  std::optional<Services> services;
  std::optional<Workers> workers;

  std::function<void(std::string_view)> note;
  std::unique_ptr<ResponseStore> responses;
  DiskResponseStore* disk = nullptr;  // `responses`, where they are on disk
  std::optional<Door> door;
  std::unique_ptr<HttpServer> http;
  std::string version;

  std::optional<HttpResponse> check(const HttpRequest& head) const {
    if (auto refused = door->check(head)) return refused;
    auto refused = check_route(head);
    if (refused)
      for (auto& h : door->headers(head)) refused->headers.push_back(std::move(h));
    return refused;
  }

  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
    std::string owner = door->owner_of(request);
    auto guarded = door->guard(request, std::move(writer));
    route(std::move(request), std::move(owner), std::move(guarded), *services);
  }

  Status open_store(const std::filesystem::path& dir) {
    if (dir.empty()) {
      responses = make_memory_response_store();
      return {};
    }
    auto store = DiskResponseStore::open(dir);
    if (!store) return of_file(std::move(store).error());
    disk = store->get();
    responses = *std::move(store);
    return {};
  }

  /// What clients do not hear of, and nobody else would.
  void tell_of_errors(EngineHost& host) {
    for (const Error& error : host.take_errors()) note(error.message);
    if (!disk) return;
    if (const auto error = disk->last_error()) note(error->message);
  }

  /// Looks for the signal now and then; once it came, lets answers end.
  void watch(EngineHost& host, const std::atomic<bool>& interrupted) {
    tell_of_errors(host);
    if (!interrupted.load(std::memory_order_relaxed))
      return http->post_after(kWatch, [this, &host, &interrupted] { watch(host, interrupted); });
    http->post_after(kPatience,
                     [&host] { host.stop(make_error(ErrorCode::cancelled, "the server is shutting down")); });
    http->stop(kGrace);
  }
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::open(const ServerOptions& options, std::function<void(std::string_view)> tell) {
  std::shared_ptr<const ApiKeys> keys;
  if (!options.api_key_file.empty()) {
    auto loaded = ApiKeys::load(options.api_key_file);
    if (!loaded) return of_file(std::move(loaded).error());
    if (loaded->warning()) tell(*loaded->warning());
    keys = std::make_shared<const ApiKeys>(*std::move(loaded));
  }
  QUERN_TRY_STATUS(check_exposure(options.host, keys != nullptr));
  auto impl = std::make_unique<Impl>();
  impl->version = options.version;
  const auto refuse = [](std::string_view path, int status, std::string_view message) {
    return error_response(path, status, message);
  };
  Impl* const self = impl.get();
  HttpServer::Handlers handlers;
  handlers.check = [self](const HttpRequest& head) { return self->check(head); };
  handlers.handle = [self](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
    self->handle(std::move(request), std::move(writer));
  };
  handlers.wrap_error = refuse;
  HttpServerOptions http;
  http.host = options.host;
  http.port = options.port;
  QUERN_TRY(impl->http, HttpServer::listen(http, std::move(handlers)));

  if (options.sandbox) tell(enter_sandbox(*options.sandbox));
  QUERN_TRY_STATUS(impl->open_store(options.store_dir));  // has a thread
  impl->note = std::move(tell);

  DoorRules rules;
  rules.host = options.host;
  rules.port = impl->http->port();
  rules.allow_hosts = options.allow_hosts;
  rules.allow_origins = options.allow_origins;
  QUERN_TRY(impl->door, Door::make(rules, std::move(keys), refuse));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

std::string Server::url() const { return impl_->http->url(); }

void Server::run(EngineHost& host, const std::atomic<bool>& interrupted, std::function<void()> ready) {
  Impl& impl = *impl_;
  impl.workers.emplace(kWorkers);
  Executors executors;
  executors.compute = [&impl](std::function<void()> task) { impl.workers->post(std::move(task)); };
  executors.serve = [&impl](std::function<void()> task) { impl.http->post(std::move(task)); };
  executors.later = [&impl](int milliseconds, std::function<void()> task) {
    impl.http->post_after(std::chrono::milliseconds(milliseconds), std::move(task));
  };
  impl.services.emplace(Services{host, *impl.responses, std::move(executors), impl.version});
  impl.http->post([&impl, &host, &interrupted, ready = std::move(ready)] {
    ready();
    impl.watch(host, interrupted);
  });
  impl.http->run();
  host.end(make_error(ErrorCode::cancelled, "the server is shutting down"));
  impl.workers.reset();  // nothing works for a host that may go now
}

}  // namespace quern
