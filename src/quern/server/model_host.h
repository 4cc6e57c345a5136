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
  /// Ends all requests and engines. Who still has a model gets errors from it.
  ~EngineHost() override;

  /// Loads the first model: an error then says what the operator should know.
  Status start();

  std::vector<ModelCard> models() override;
  /// Why a model does not load is the operator's business (`take_errors`); clients hear that it does not.
  Result<std::shared_ptr<ServedModel>> model(std::string_view name) override;
  std::optional<Json> prefix_misses(std::string_view owner) override;
  std::string metrics() override;
  bool healthy() override { return true; }

  /// Ends all requests with this error, those that come later too.
  void stop(const Error& reason);
  /// The same, and waits for the engines' threads: nobody hears of anything any more.
  void end(const Error& reason);

  /// What has gone wrong behind the requests and was not told yet: models that do not load, disk tiers that fail.
  std::vector<Error> take_errors();

 private:
  class Hosted;
  struct Slot {
    ModelEntry entry;
    std::shared_ptr<Hosted> loaded;  // null: not in memory
    uint64_t used = 0;
    EngineFacts past;              // counters of what was unloaded
    std::optional<Error> failure;  // of the last load; nothing after one that went well
    bool failure_told = false;
  };

  Slot* find(std::string_view name);
  Result<std::shared_ptr<ServedModel>> model_of(Slot& slot);
  Result<std::shared_ptr<Hosted>> load(Slot& slot);
  bool unload_one();
  bool unload_one_soon();
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
