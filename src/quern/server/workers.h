// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace quern {

/// Threads for what takes its time: parsing, templates, tokenising, loading. Tasks begin in the order of their coming.
class Workers {
 public:
  explicit Workers(int threads);
  /// Ends the threads; tasks that have not begun are dropped.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Any thread. What a task throws ends that task alone.
  void post(std::function<void()> task);
  /// No task begins any more.
  void let_go();
  /// Ends the threads as the destructor does, but waits no longer than until `deadline`; false: one still works.
  bool end_by(std::chrono::steady_clock::time_point deadline);

 private:
  void work();
  std::mutex mutex_;
  std::condition_variable wake_, gone_;
  std::deque<std::function<void()>> tasks_;  // guarded by mutex_
  bool ends_ = false;                        // guarded by mutex_
  size_t ended_ = 0;                         // guarded by mutex_: threads
  std::vector<std::thread> threads_;
};

}  // namespace quern
