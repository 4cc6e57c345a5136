// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/prefix_folder.h"

namespace quern {

/// The disk tier of the prefix cache: byte strings by key, kept over restarts. A store can lose any entry at any time
/// and never returns one that is not what was put: what is damaged, cut, or another model's is removed when it is read.
/// Checksums are against damage: who may write to the folder may forge.
///
/// One thread, the engine's, calls everything; a thread of the store's own writes. No member waits for a write but
/// `flush` and the destructor. Several processes may use one folder.
class PrefixStore {
 public:
  /// Entries that wait to be written hold memory of the caller's: no more than so much.
  static constexpr int64_t kQueueBytes = 256 << 20;

  /// `fingerprint`: of the model and the form of its state; entries of others are never found, but count towards
  /// `cap_bytes`: the longest unused of all go first. What other stores, of this model too, have written and removed
  /// meanwhile is looked at again each time a 32nd of the cap was written here, so that several together stay below it
  /// but for such a part each. The folder is made where it is absent; one that cannot be made is an error.
  static Result<std::unique_ptr<PrefixStore>> open(const std::filesystem::path& dir, uint64_t fingerprint,
                                                   int64_t cap_bytes, int64_t queue_bytes = kQueueBytes);
  /// Writes what waits.
  ~PrefixStore();

  /// Whether `get` has something to read; it may turn out to be damaged.
  bool contains(const StoreKey& key) const;
  /// Writes soon. The bytes must stay as they are until `written` is called: on the store's thread after the write, or
  /// after it has failed; or on this one, before `put` returns, when the entry is there or on its way already, is
  /// larger than the store, or too much waits. It must neither block nor call `flush`.
  void put(const StoreKey& key, std::vector<std::span<const std::byte>> parts, std::function<void()> written);
  /// Reads into parts of the sizes that were put. False: not there, or not whole; the parts may hold anything then.
  bool get(const StoreKey& key, std::span<const std::span<std::byte>> parts);
  /// Returns when all that was put has been written.
  void flush();

  /// Why a write failed (a full or read-only disk): told once, and again only after a write has worked in between. The
  /// store goes on and tries with each `put`. Any thread.
  std::optional<Error> last_error();
  /// What is on disk, as far as this process knows, in whole blocks. Any thread.
  int64_t stored_bytes() const;
  /// Writes that were tried so far, whatever became of them: rises while it gets on. Any thread.
  uint64_t tried() const { return tried_.load(std::memory_order_relaxed); }
  /// What was put and has not been written. Any thread.
  int64_t waiting_bytes() const;

 private:
  struct Job {
    StoreKey key;
    std::vector<std::span<const std::byte>> parts;
    std::function<void()> written;
    int64_t bytes;
  };
  struct Entry {
    int64_t bytes, used_ns;
    std::list<StoreKey>::iterator use;  // in uses_
  };
  struct KeyHash {  // keys are hashes
    size_t operator()(const StoreKey& key) const;
  };

  PrefixStore(std::unique_ptr<PrefixFolder> folder, uint64_t fingerprint, int64_t cap_bytes, int64_t queue_bytes);
  void take_stock();
  void look_again();
  void run();
  void write(const Job& job);
  void make_room(int64_t bytes);
  void forget(const StoreKey& key);
  void remember(const StoreKey& key, int64_t bytes, int64_t used_ns);
  bool other_is_next() const;

  // constant after construction
  std::unique_ptr<PrefixFolder> folder_;
  uint64_t fingerprint_;
  int64_t cap_bytes_, queue_bytes_;

  // guarded by mutex_
  mutable std::mutex mutex_;
  std::unordered_map<StoreKey, Entry, KeyHash> index_;
  std::list<StoreKey> uses_;               // the longest unused first
  std::deque<PrefixFolder::File> others_;  // of other fingerprints, the same
  int64_t stored_bytes_ = 0;
  std::deque<Job> queue_;  // the first is being written
  std::unordered_set<StoreKey, KeyHash> queued_;
  int64_t queued_bytes_ = 0;
  std::optional<Error> error_;
  bool failing_ = false, stopping_ = false;
  std::condition_variable changed_;

  int64_t written_bytes_ = 0;  // writer's thread: since it last looked
  std::atomic<uint64_t> tried_ = 0;
  std::thread writer_;
};

}  // namespace quern
