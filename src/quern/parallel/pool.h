// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/parallel/profile.h"

namespace quern {

class Pool;

/// One thread's part in a parallel region. All workers of a region run the same code; work is split by index, and what
/// one worker wrote another may read only after both passed `barrier()`.
class Worker {
 public:
  int index() const { return index_; }
  int count() const { return count_; }
  /// Waits until every worker of the region is here.
  void barrier() const;
  /// What this worker does from here on, for a profile; without one, nothing.
  void phase(Phase next) const {
    if (track_) track_->enter(next);
  }

  struct Range {
    int64_t begin, end;
  };
  /// This worker's contiguous share of [0, n), in steps of `grain` (the last may be shorter).
  Range share(int64_t n, int64_t grain = 1) const;
  /// Whether n equal things that stay whole are shared out fairly: a worker has at most an eighth more than another.
  bool shares_fairly(int64_t n) const { return n % count_ == 0 || n >= 8 * count_; }
  /// Passes all of [0, n) to `fn(begin, end)` once, in pieces of whole grains (the last may be shorter), `most` long or
  /// a grain: to every worker its share from front to back, as `share` cuts it, and to whom is done the rest of those
  /// who are late, so that nobody waits for a core that is slow or busy with something else. What comes out for an
  /// index must not depend on who computes it or on the piece. All workers call it, with the same numbers.
  void work_through(int64_t n, int64_t grain, int64_t most, FunctionRef<void(int64_t begin, int64_t end)> fn) const;

 private:
  friend class Pool;
  Worker(Pool& pool, int index);
  Pool& pool_;
  Profile::Track* track_;  // null: no profile
  int index_, count_;
};

/// A fixed team of threads; the caller of `run` is worker 0. One region at a time: `run` is for one thread to call.
/// Waiting spins briefly, then sleeps (futex), so an idle pool costs nothing.
class Pool {
 public:
  /// A team of `threads` (at least 1), the caller among them; out_of_memory where the system starts fewer, after those
  /// went home.
  static Result<std::unique_ptr<Pool>> make(int threads);
  /// The same where a failure is not expected: aborts with a message.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const;
  /// A number that changes while a region gets on: with every barrier and every piece of `work_through`. Any thread.
  uint64_t pulse() const;
  /// Runs `fn` on every worker and returns when all are done. `fn` must not throw, on any worker: the others would wait
  /// at a barrier forever, so an exception that leaves it ends the process (std::terminate, which names it). Allocate
  /// before the region.
  void run(FunctionRef<void(const Worker&)> fn) noexcept;
  /// Charges the time of the regions that follow to a profile of as many threads, or to none (null). Between regions;
  /// the profile must outlive them.
  void profile(Profile* profile);

  /// Physical cores this process may use: affinity mask and cgroup quota; at least 1.
  static int default_threads();

 private:
  friend class Worker;
  struct Impl;
  explicit Pool(std::unique_ptr<Impl> impl);
  /// Starts the team as far as the system lets it; returns its size with the caller.
  int start();
  /// One worker's part of a region, up to the barrier at its end.
  void work(int index, FunctionRef<void(const Worker&)> fn);
  /// What a thread of the team does until it goes home.
  void serve(int index);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern
