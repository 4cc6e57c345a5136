// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quern/base/result.h"
#include "quern/server/http_server.h"
#include "quern/server/model_host.h"
#include "quern/server/sandbox.h"
#include "quern/server/services.h"

namespace quern {

struct ServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                                 ///< 0: a free one
  std::filesystem::path api_key_file;                   ///< empty: no keys
  std::vector<std::string> allow_hosts, allow_origins;  ///< see DoorRules
  std::filesystem::path store_dir;                      ///< of stored responses; empty: memory only
  std::optional<SandboxPaths> sandbox;                  ///< what stays open once it listens; nothing: everything does
  std::string version;
};

/// A whole server: sockets, keys, dialects, models.
class Server {
 public:
  /// Reads the keys, takes the port and enters the sandbox; answers nothing yet. To be called on the main thread before
  /// others start: the sandbox is for those that come later. `note` gets what the operator should know, one line each,
  /// also while it runs, then on the thread of `run`.
  static Result<std::unique_ptr<Server>> open(const ServerOptions& options, std::function<void(std::string_view)> note);
  ~Server();

  std::string url() const;

  /// What it looks at now and then.
  struct Signals {
    const std::atomic<bool>& interrupted;              ///< it should end
    const std::atomic<bool>* has_lost_file = nullptr;  ///< a thread has met a file that cannot be read, and rests
  };
  struct Ending {
    std::optional<Error> failure;  ///< it had to end: it could not serve any more
    bool at_rest = true;           ///< false: threads are still at work, nothing may be destroyed: leave the process
  };
  /// Serves the models of `host` until `interrupted` becomes true, then lets answers end: at most about ten seconds,
  /// after half of which those that still run are told why they end; what the cache still writes is waited for, but not
  /// beyond eleven seconds in all. Where it cannot serve any more (EngineHost::failure, a lost file) it tells its
  /// clients and returns within two. `ready` is called once, when the next request would be answered.
  Ending run(EngineHost& host, Signals signals, std::function<void()> ready);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern
