// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/engine.h"
#include "quern/engine/loaded_model.h"
#include "quern/engine/memory.h"
#include "quern/server/file_watch.h"
#include "quern/server/hosted_model.h"
#include "quern/server/sandbox.h"
#include "quern/server/services.h"
#include "quern/server/watchdog.h"
#include "quern/server/workers.h"

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
  /// An engine that works so long without getting on answers nobody new; after twice that it is given up.
  std::chrono::milliseconds silence{30'000};
  std::chrono::milliseconds file_look{1000};  ///< how often files of loaded models are looked at
  /// What could not be read of a model is not tried again for so long, unless its files change.
  std::chrono::milliseconds facts_rest{1000};
  // What tests put something else in the place of.
  std::function<int64_t(int64_t)> memory_room = quern::memory_room;
  std::function<Result<ModelFacts>(const std::filesystem::path&, Isa, std::vector<FileState>)> read_facts =
      read_model_facts;
  std::function<bool(const std::filesystem::path&)> is_shut = is_shut_by_sandbox;
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
  /// Of a model that is not in memory the context is what it could have were it alone there, as that was when models
  /// last came or went.
  ModelDetails details(const ModelCard& card) override;
  std::shared_ptr<ServedModel> loaded_model() override;
  /// Why a model does not load is the operator's business (`take_errors`); clients hear that it does not.
  Result<std::shared_ptr<ServedModel>> model(std::string_view name) override;
  bool load_later(std::string_view name, Loaded then) override;
  std::optional<Json> prefix_misses(std::string_view owner) override;
  std::string metrics() override;
  /// False while an engine is silent, and for good once one has failed.
  bool healthy() override;

  /// Looks after the engines and, on a thread of its own, the files of their models. To be called now and then, by one
  /// thread; returns at once. A model whose file is written into while it is served answers nobody any more, its
  /// requests end with an error, and it is unloaded.
  void watch();
  /// Why this process should end, once that is so: an engine has failed or is given up, no model is left.
  std::optional<Error> failure();

  /// Ends all requests with this error, those that come later too.
  void stop(const Error& reason);
  /// The same at once, whatever the engines' threads are doing.
  void abandon(const Error& reason);
  /// `stop`, and waits for the threads: nobody hears of anything any more. False: at `deadline` some were still at
  /// work; then nothing may be destroyed, only the process can end.
  bool end(const Error& reason, std::chrono::steady_clock::time_point deadline);

  /// What has gone wrong behind the requests and was not told yet: models that do not load or cannot be read, of each
  /// the latest reason; disk tiers that fail.
  std::vector<Error> take_errors();

 private:
  using Clock = std::chrono::steady_clock;
  using FactsPointer = std::shared_ptr<const ModelFacts>;
  class LoadUnderWay;
  /// A context that was planned when so many changes of what is in memory had been.
  struct PlannedContext {
    int64_t tokens;
    uint64_t changes;
  };
  struct Trouble {
    std::optional<Error> last;    // of the last try; nothing after one that went well
    std::optional<Error> untold;  // the latest that is another than the one before, until it is told
  };
  struct Slot {
    ModelEntry entry;
    std::shared_ptr<HostedModel> loaded;    // null: not in memory
    std::optional<FileWatch> files;         // of what is loaded
    FactsPointer facts;                     // null: nobody has asked for them
    Clock::time_point facts_read;           // when that was tried last
    std::optional<PlannedContext> context;  // of `facts`
    std::vector<Loaded> waiting;            // for it to be loaded: that is under way
    Watchdog watchdog;
    bool silent = false;
    bool lost = false;  // its file has changed: not served any more
    uint64_t used = 0;
    EngineFacts past;  // counters of what was unloaded
    Trouble loading;
    Trouble reading;  // of facts
  };

  Slot* find(std::string_view name);
  FactsPointer facts(Slot& slot);
  FactsPointer known_facts(Slot& slot);
  int64_t context(Slot& slot, const FactsPointer& facts);
  void load_for_those_who_wait(Slot& slot);
  Result<std::shared_ptr<ServedModel>> model_of(Slot& slot);
  Result<std::shared_ptr<HostedModel>> load(Slot& slot, std::optional<FileWatch>& files);
  std::optional<Error> refusal(const Slot& slot);
  void look_after(Slot& slot, Watchdog::Clock::time_point now);
  void look_at_files();
  Error explained(const std::filesystem::path& path, Error error) const;
  static void fail(Slot& slot, Trouble& trouble, Error error);
  void lose(Slot& slot, Error change);
  void unload_lost();
  std::vector<std::shared_ptr<HostedModel>> loaded();
  Loaded take_waiting();  ///< one who waits for a model; null: nobody does
  bool unload_one();
  bool unload_one_soon();
  int64_t bytes_in_use() const;
  int64_t promised_bytes() const;
  int64_t scratch_bytes() const;

  const HostOptions options_;  // constant after construction
  const Loader loader_;        // constant after construction
  std::mutex loading_;         // one load at a time; taken before mutex_
  std::mutex reading_;         // facts of one model at a time; taken before mutex_
  std::mutex mutex_;
  std::vector<Slot> slots_;                  // its size and entries are constant; the rest guarded by mutex_
  uint64_t clock_ = 0;                       // guarded by mutex_
  uint64_t changes_ = 0;                     // guarded by mutex_: of what is in memory, counted when they are done
  bool load_under_way_ = false;              // guarded by mutex_
  std::optional<Error> stopped_;             // guarded by mutex_
  std::optional<Error> failed_;              // guarded by mutex_
  std::vector<Error> untold_;                // guarded by mutex_
  bool looking_ = false;                     // guarded by mutex_: at files
  Watchdog::Clock::time_point next_look_{};  // of the thread of `watch`
  Workers loads_{1}, files_{1};              // last: what they do needs all of the above
};

}  // namespace quern
