// SPDX-License-Identifier: Apache-2.0
#include "quern/server/workers.h"

#include <utility>

namespace quern {

Workers::Workers(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Workers::~Workers() {
  let_go();
  for (std::thread& thread : threads_) thread.join();
}

bool Workers::end_by(std::chrono::steady_clock::time_point deadline) {
  let_go();
  std::unique_lock lock(mutex_);
  return gone_.wait_until(lock, deadline, [&] { return ended_ == threads_.size(); });
}

void Workers::let_go() {
  std::deque<std::function<void()>> dropped;  // what they hold may post again: not under the lock
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
    dropped.swap(tasks_);
  }
  wake_.notify_all();
}

void Workers::post(std::function<void()> task) {
  {
    const std::scoped_lock lock(mutex_);
    if (ends_) return;
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Workers::work() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return ends_ || !tasks_.empty(); });
      if (ends_) {
        ++ended_;
        gone_.notify_all();
        return;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    try {
      task();
    } catch (...) {
      // Out of memory, most likely: who waited for this task is told when what it owned goes.
    }
  }
}

}  // namespace quern
