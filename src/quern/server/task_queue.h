// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace quern {

/// Tasks of all threads for one thread, in the order of the calls. Outlives the loop that runs them, so that who comes
/// late needs not know: after `close` tasks are dropped.
class TaskQueue {
 public:
  /// `signal` makes the loop call `take` soon; called under the lock, on the thread that posts.
  explicit TaskQueue(std::function<void()> signal) : signal_(std::move(signal)) {}

  void post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (!signal_) return;
    tasks_.push_back(std::move(task));
    if (signalled_) return;
    signal_();
    signalled_ = true;
  }

  std::vector<std::function<void()>> take() {
    const std::lock_guard lock(mutex_);
    signalled_ = false;
    return std::exchange(tasks_, {});
  }

  void close() {
    std::vector<std::function<void()>> dropped;  // outside the lock: what they own may post
    const std::lock_guard lock(mutex_);
    signal_ = nullptr;
    dropped.swap(tasks_);
  }

 private:
  std::mutex mutex_;
  // guarded by mutex_
  std::function<void()> signal_;
  bool signalled_ = false;
  std::vector<std::function<void()>> tasks_;
};

}  // namespace quern
