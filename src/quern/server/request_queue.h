// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace quern {

/// Whole requests that wait for a thread: those of one owner in the order of their coming, the owners in turn,
/// so that the many of one do not make all others wait. Bounded. Any thread; held by a shared_ptr.
class RequestQueue : public std::enable_shared_from_this<RequestQueue> {
 public:
  using Task = std::function<void()>;
  static constexpr size_t kMost = 1024;
  explicit RequestQueue(size_t most = kMost) : most_(most) {}

  /// A number for one request, so that who may drop it knows it before it can begin.
  uint64_t new_number() { return last_.fetch_add(1, std::memory_order_relaxed) + 1; }
  /// False where it is full. `compute` gets a task that runs one of those that wait.
  bool add(uint64_t number, std::string_view owner, Task task, const std::function<void(Task)>& compute);
  /// It need not run any more; of no effect once it began.
  void drop(uint64_t number);
  size_t size() const;

 private:
  struct Line {
    std::string owner;
    std::map<uint64_t, Task> tasks;  // at least one
  };
  void run_next();
  Task take();

  const size_t most_;
  std::atomic<uint64_t> last_{0};
  mutable std::mutex mutex_;
  // guarded by mutex_
  std::list<Line> lines_;  // the next one first
  size_t waiting_ = 0;
  size_t turns_ = 0;  // runs of `run_next` that are still to come: as many as wait, at least
};

}  // namespace quern
