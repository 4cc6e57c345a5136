// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>

namespace quern {
namespace {

// A program that shares a processor takes it for a slice or two of the system's, 3 to 12 ms, at a time.
constexpr auto kSpan = std::chrono::milliseconds(20);
// Shares of time. A program that never rests costs two workers on two processors a sixth of theirs or more, the reader
// of a stream a hundredth.
constexpr double kCrowded = 0.08, kQuiet = 0.04;

}  // namespace

Crowding::Spent Crowding::Spent::read() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return {Clock::now(), read_running(), usage.ru_nivcsw};
}

Crowding::Duration Crowding::Spent::read_running() {
  timespec running{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &running);
  return std::chrono::seconds(running.tv_sec) + std::chrono::nanoseconds(running.tv_nsec);
}

bool Crowding::note_is_due(int worker, Clock::time_point now) const { return now - workers_[worker].last.now >= kSpan; }

void Crowding::note(int worker, const Spent& spent) {
  Track& w = workers_[worker];
  const Duration wall = spent.now - w.last.now;
  w.wall += wall;
  w.lost += std::max(Duration(0), wall - (spent.running - w.last.running) - w.asleep);
  w.preempted = w.preempted || spent.preempted > w.last.preempted;
  w.last = spent;
  w.asleep = {};
  if (w.wall < kSpan) return;
  // Without a preemption the time was taken from under the system, or went into waiting for a disk: nobody here waits
  // for the processor.
  const double lost = w.preempted ? static_cast<double>(w.lost.count()) / static_cast<double>(w.wall.count()) : 0;
  w.share = (w.share + lost) / 2;
  w.wall = w.lost = {};
  w.preempted = false;
  const bool crowded = w.share > (w.crowded ? kQuiet : kCrowded);
  if (crowded != w.crowded) crowded_.fetch_add(crowded ? 1 : -1, std::memory_order_relaxed);
  w.crowded = crowded;
}

}  // namespace quern
