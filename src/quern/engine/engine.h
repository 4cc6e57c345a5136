// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/core.h"
#include "quern/engine/loaded_model.h"
#include "quern/engine/prefix_store.h"
#include "quern/engine/request.h"

namespace quern {

struct EngineOptions {
  int parallel = 8;                      ///< requests that decode at the same time; more wait
  int64_t queue = 512;                   ///< requests that may wait for a place; beyond it `full`
  bool report_misses = false;            ///< see `prefix_misses`
  bool speculate = true;                 ///< draft from what was said before, where it pays
  std::filesystem::path cache_dir;       ///< the prefix cache's disk tier; empty: none
  int64_t cache_dir_bytes = 10LL << 30;  ///< what that may take
};

/// A model that answers many at once: a thread of its own around an EngineCore. All members may be called from any
/// thread.
class Engine {
 public:
  /// An unusable cache folder is an error.
  static Result<std::unique_ptr<Engine>> start(std::unique_ptr<LoadedModel> model, const EngineOptions& options);
  ~Engine();
  /// Ends all requests with an error, those that come later too, and the thread. Once; not on the engine's thread, and
  /// so needed where listeners own the engine. The destructor does the same.
  void close();
  /// Begins that: returns at once. Any thread.
  void ask_to_end();
  /// As `close`, but waits no longer than until `deadline`. False: the thread is still at work, writing what the disk
  /// does not take or in a step that does not end; then nothing may be destroyed, only the process can end.
  bool close_by(std::chrono::steady_clock::time_point deadline);

  /// What does not change: tokenizer, template, facts. The rest of it is the engine's.
  const LoadedModel& model() const { return *model_; }

  /// Queues a request; returns what `cancel` takes. The listener hears of it on the engine's thread.
  uint64_t submit(Request request, const std::shared_ptr<RequestListener>& listener);
  /// It ends as cancelled within a step.
  void cancel(uint64_t id);
  /// Ends all requests with this error, those that come later too.
  void stop(Error reason);

  EngineFacts facts() const;
  /// Nobody runs or waits.
  bool idle() const;
  /// As many requests wait as may: better not to submit more now. One that comes all the same ends with an error.
  bool full() const;
  /// Where the latest prompts of an owner went another way than what was known; the oldest first.
  std::vector<PrefixMiss> prefix_misses(std::string_view owner) const;
  /// The disk tier's last failure, told once (`PrefixStore::last_error`); serving goes on without it.
  std::optional<Error> cache_error() const;
  /// What the disk tier has still to write.
  int64_t unwritten_bytes() const { return store_ ? store_->waiting_bytes() : 0; }

  /// What tells from outside that its thread gets on: while it `works`, `beats` changes with each step and with each
  /// piece of a forward pass, however long that takes.
  struct Pulse {
    uint64_t beats;
    bool works;  ///< false: it waits for requests
  };
  Pulse pulse() const;
  /// Why it does nothing any more: something other than a lack of memory was thrown on its thread. Its requests have
  /// ended with this error, and so do those that come.
  std::optional<Error> failure() const;

 private:
  Engine(std::unique_ptr<LoadedModel> model, std::unique_ptr<PrefixStore> store, const EngineOptions& options);
  struct Arrival {
    uint64_t id;
    Request request;
    std::shared_ptr<RequestListener> listener;
  };
  int64_t waiting() const;  // under mutex_
  void work();
  void run_steps();
  /// Makes some memory ready for tokens yet to come; false: enough is, or there is no more.
  bool touch_memory();
  void end_rest(const Error& reason);
  void fail(std::string_view what) noexcept;
  /// Waits for something to do where `busy` is false; false: the end.
  bool take_in(bool busy);

  const EngineOptions options_;
  std::unique_ptr<LoadedModel> model_;  // constant after construction
  std::unique_ptr<PrefixStore> store_;  // constant after construction
  std::unique_ptr<EngineCore> core_;    // engine thread only, once it runs
  std::atomic<uint64_t> rounds_{0};     // of its thread
  std::atomic<bool> works_{true};

  mutable std::mutex mutex_;
  std::condition_variable wake_, gone_;
  std::vector<Arrival> arrivals_;    // guarded by mutex_
  std::vector<uint64_t> cancelled_;  // guarded by mutex_
  std::optional<Error> stopped_;     // guarded by mutex_
  std::optional<Error> failure_;     // guarded by mutex_
  bool ends_ = false;                // guarded by mutex_
  bool has_ended_ = false;           // guarded by mutex_: the thread
  uint64_t last_id_ = 0;             // guarded by mutex_
  std::deque<PrefixMiss> misses_;    // guarded by mutex_
  EngineFacts facts_;                // guarded by mutex_
  std::thread thread_;
};

}  // namespace quern
