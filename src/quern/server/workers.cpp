// SPDX-License-Identifier: Apache-2.0
#include "quern/server/workers.h"

#include <utility>

namespace quern {

Workers::Workers(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Workers::~Workers() {
  std::deque<std::function<void()>> dropped;  // what they hold may post again: not under the lock
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
    dropped.swap(tasks_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
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
      if (ends_) return;
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
