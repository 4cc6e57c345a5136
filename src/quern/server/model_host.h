// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/engine.h"
#include "quern/engine/loaded_model.h"
#include "quern/server/services.h"

namespace quern {

/// A model that a server was asked to serve.
struct ModelEntry {
  std::string name;
  std::filesystem::path path;
  std::vector<std::string> aliases;
};

struct HostOptions {
  LoadOptions load;      ///< of each model; the memory budget is for all of them together
  EngineOptions engine;  ///< of each model
};

/// Loads models when they are asked for and unloads those that nobody uses when another needs their room, the longest
/// unused first; never one with a request. Any thread.
class EngineHost : public ModelHost {
 public:
  using Loader = std::function<Result<std::unique_ptr<LoadedModel>>(const std::filesystem::path&, const LoadOptions&)>;

  /// At least one entry.
  EngineHost(std::vector<ModelEntry> entries, HostOptions options, Loader loader);
  /// Ends the engines; models that somebody still holds end requests with an error.
  ~EngineHost() override;

  std::vector<ModelCard> models() override;
  Result<std::shared_ptr<ServedModel>> model(std::string_view name) override;
  std::optional<Json> prefix_misses(std::string_view owner) override;
  std::string metrics() override;
  bool healthy() override { return true; }

  /// Ends all requests with this error, those that come later too.
  void stop(const Error& reason);
  /// The same, and waits for the engines' threads: nobody hears of anything any more.
  void end(const Error& reason);
  /// What disk tiers of prefix caches failed at since the last call, one line each.
  std::vector<std::string> cache_errors();

 private:
  class Hosted;
  struct Slot {
    ModelEntry entry;
    std::shared_ptr<Hosted> loaded;  // null: not in memory
    uint64_t used = 0;
    EngineFacts past;  // counters of what was unloaded
  };

  Slot* find(std::string_view name);
  Result<std::shared_ptr<Hosted>> load(Slot& slot);
  bool unload_one();
  int64_t bytes_in_use() const;
  int64_t promised_bytes() const;

  const HostOptions options_;  // constant after construction
  const Loader loader_;        // constant after construction
  std::mutex loading_;         // one load at a time; taken before mutex_
  std::mutex mutex_;
  std::vector<Slot> slots_;       // its size and entries are constant; the rest guarded by mutex_
  uint64_t clock_ = 0;            // guarded by mutex_
  std::optional<Error> stopped_;  // guarded by mutex_
};

}  // namespace quern
