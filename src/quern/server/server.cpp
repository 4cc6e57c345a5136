// SPDX-License-Identifier: Apache-2.0
#include "quern/server/server.h"

#include <new>
#include <optional>
#include <thread>
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
/// Then the disk may still take what waits for it, this long after the signal.
constexpr auto kEnd = 11s;
/// For errors to reach their clients where nothing goes on any more.
constexpr auto kLastWords = 2s;
constexpr auto kWatch = 50ms;
/// Templates and tokenisation of one request at a time leave the cores to the engine; a second thread answers what is
/// quick meanwhile. So many requests, at most, may come between a queue's last place and one that was told to wait.
constexpr int kWorkers = 2;
/// Facts of models are read one at a time: more threads would only wait for each other.
constexpr int kReaders = 1;

/// The same error of a file: the command line is right, what it names is not as it should be.
Error of_file(Error error) {
  if (error.code == ErrorCode::invalid_argument) error.code = ErrorCode::internal;
  return error;
}

}  // namespace

struct Server::Impl {
  // Set while it serves.
  std::optional<Services> services;
  std::optional<Workers> workers, readers;
  std::optional<Error> failure;
  std::optional<std::chrono::steady_clock::time_point> end_by;  // set when it ends

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

  /// Looks for signals and failures now and then, also where there is no memory for what they lead to.
  void watch(EngineHost& host, Signals signals) {
    for (bool goes_on = false; !goes_on && !failure;) {
      try {
        look(host, signals);
        if (!failure) http->post_after(kWatch, [this, &host, signals] { watch(host, signals); });
        goes_on = true;
      } catch (const std::exception&) {  // whatever it is: who else would end the server?
        std::this_thread::sleep_for(kWatch);
      }
    }
  }

  void look(EngineHost& host, Signals signals) {
    if (signals.has_lost_file && signals.has_lost_file->load(std::memory_order_relaxed))
      return give_up(host, make_error(ErrorCode::corrupt_data, "a mapped file cannot be read any more"));
    host.watch();
    tell_of_errors(host);
    if (auto failed = host.failure()) return give_up(host, *std::move(failed));
    if (signals.interrupted.load(std::memory_order_relaxed) && !end_by) let_end(host);
  }

  void let_end(EngineHost& host) {
    http->post_after(kPatience, [&host] { host.stop(shutting_down()); });
    http->stop(kGrace);
    end_by = std::chrono::steady_clock::now() + kEnd;
  }

  /// Threads may hang: whoever waits is told from here.
  void give_up(EngineHost& host, Error why) {
    host.abandon(make_error(ErrorCode::cancelled, "the server has failed and ends"));
    http->stop(kLastWords);
    failure = std::move(why);
  }

  static Error shutting_down() { return make_error(ErrorCode::cancelled, "the server is shutting down"); }
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

Server::Ending Server::run(EngineHost& host, Signals signals, std::function<void()> ready) {
  Impl& impl = *impl_;
  impl.workers.emplace(kWorkers);
  impl.readers.emplace(kReaders);
  Executors executors;
  executors.compute = [&impl](std::function<void()> task) { impl.workers->post(std::move(task)); };
  executors.read = [&impl](std::function<void()> task) { impl.readers->post(std::move(task)); };
  executors.serve = [&impl](std::function<void()> task) { impl.http->post(std::move(task)); };
  executors.later = [&impl](int milliseconds, std::function<void()> task) {
    impl.http->post_after(std::chrono::milliseconds(milliseconds), std::move(task));
  };
  impl.services.emplace(Services{host, *impl.responses, std::move(executors), impl.version});
  impl.http->post([&impl, &host, signals, ready = std::move(ready)] {
    ready();
    impl.watch(host, signals);
  });
  impl.http->run();
  if (impl.failure) return {.failure = std::move(impl.failure), .at_rest = false};
  // All in any case. Nothing works for a host that may go then.
  const bool host_rests = host.end(Impl::shutting_down(), *impl.end_by);
  impl.readers->let_go();  // both now: those may take all the time there is
  const bool workers_rest = impl.workers->end_by(*impl.end_by);
  const bool readers_rest = impl.readers->end_by(*impl.end_by);
  impl.tell_of_errors(host);
  return {.failure = {}, .at_rest = host_rests && workers_rest && readers_rest};
}

}  // namespace quern
