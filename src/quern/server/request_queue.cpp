// SPDX-License-Identifier: Apache-2.0
#include "quern/server/request_queue.h"

#include <algorithm>
#include <utility>

namespace quern {

bool RequestQueue::add(uint64_t number, std::string_view owner, Task task, const std::function<void(Task)>& compute) {
  size_t missing = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (waiting_ >= most_) return false;
    auto line = std::find_if(lines_.begin(), lines_.end(), [&](const Line& l) { return l.owner == owner; });
    std::list<Line> fresh;  // joins the others once nothing can fail any more
    if (line == lines_.end()) line = fresh.insert(fresh.end(), Line{std::string(owner), {}});
    line->tasks.emplace(number, std::move(task));
    lines_.splice(lines_.end(), fresh);
    // Turns of requests that were dropped are there for those that come.
    missing = ++waiting_ > turns_ ? waiting_ - turns_ : 0;
    turns_ += missing;
  }
  try {
    for (; missing > 0; --missing) compute([self = shared_from_this()] { self->run_next(); });
  } catch (...) {
    drop(number);
    const std::scoped_lock lock(mutex_);
    turns_ -= missing;
    throw;
  }
  return true;
}

void RequestQueue::drop(uint64_t number) {
  Task dropped;  // outside the lock: what it owns may come here
  const std::scoped_lock lock(mutex_);
  for (auto line = lines_.begin(); line != lines_.end(); ++line) {
    const auto found = line->tasks.find(number);
    if (found == line->tasks.end()) continue;
    dropped = std::move(found->second);
    line->tasks.erase(found);
    --waiting_;
    if (line->tasks.empty()) lines_.erase(line);
    return;
  }
}

size_t RequestQueue::size() const {
  const std::scoped_lock lock(mutex_);
  return waiting_;
}

RequestQueue::Task RequestQueue::take() {
  const std::scoped_lock lock(mutex_);
  --turns_;
  if (lines_.empty()) return {};
  Line& line = lines_.front();
  const auto first = line.tasks.begin();
  Task task = std::move(first->second);
  line.tasks.erase(first);
  --waiting_;
  if (line.tasks.empty())
    lines_.pop_front();
  else
    lines_.splice(lines_.end(), lines_, lines_.begin());
  return task;
}

void RequestQueue::run_next() {
  if (const Task task = take()) task();
}

}  // namespace quern
