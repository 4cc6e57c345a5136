// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "quern/base/check.h"
#include "quern/parallel/cores.h"
#include "quern/parallel/crowding.h"
#include "quern/parallel/event_word.h"
#include "quern/parallel/share.h"

namespace quern {
namespace {

// Pieces of a share, at least, so that there is something to help with.
constexpr int64_t kPieces = 4;

Share::Range share_of(int worker, int workers, int64_t units) {
  return {units * worker / workers, units * (worker + 1) / workers};
}

}  // namespace

struct Pool::Impl {
  explicit Impl(int n) : threads(n), crowding(n, usable_cpus()), shares(n), turns(n) {}
  static std::unique_ptr<Impl> make(int threads) {
    QUERN_CHECK(threads >= 1, "a pool has at least the caller");
    return std::make_unique<Impl>(threads);
  }

  // constant after construction
  const int threads;
  std::vector<std::jthread> team;
  Crowding crowding;

  // By worker. The turn is that of its own calls of `work_through`; nobody else looks at it.
  struct alignas(64) Turn {
    uint16_t number = 0;
  };
  std::vector<Share> shares;
  std::vector<Turn> turns;

  // A region begins when `region` changes; what it runs is written before. Its end is one more barrier.
  EventWord region;
  std::optional<FunctionRef<void(const Worker&)>> work;  // nothing: the team goes home
  Profile* profile = nullptr;
  Profile::Clock::time_point began;  // of the region, where there is a profile

  // Sense-reversing barrier: the last to arrive resets the count and turns `phase`.
  alignas(64) std::atomic<int> arrived{0};
  EventWord phase;

  /// Of a worker within a region.
  void wait_past(EventWord& word, uint32_t seen, int index) {
    if (word.spin_past(seen, crowding.patience())) return;
    if (!crowding.is_open()) return word.sleep_past(seen);
    if (crowding.note_is_due(index, Crowding::Clock::now())) crowding.note(index, Crowding::Spent::read());
    const auto start = Crowding::Clock::now();
    const auto running = Crowding::Spent::read_running();
    word.sleep_past(seen);
    crowding.slept(index, Crowding::Clock::now() - start - (Crowding::Spent::read_running() - running));
  }

  void barrier(int index) {
    if (threads == 1) return;
    const uint32_t before = phase.value();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived.store(0, std::memory_order_relaxed);
      phase.advance();
    } else {
      wait_past(phase, before, index);
    }
  }
};

Pool::Pool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Pool::Pool(int threads) : Pool(Impl::make(threads)) {
  QUERN_CHECK(start() == threads, "the system does not start the threads of a pool");
}

Result<std::unique_ptr<Pool>> Pool::make(int threads) {
  std::unique_ptr<Pool> pool(new Pool(Impl::make(threads)));
  const int started = pool->start();
  if (started == threads) return pool;
  return make_error(ErrorCode::out_of_memory, "threads: expected {}, the system started {}", threads, started);
}

int Pool::start() {
  int started = 1;
  try {
    impl_->team.reserve(impl_->threads - 1);
    for (; started < impl_->threads; ++started)
      impl_->team.emplace_back([this, started]() noexcept { serve(started); });
  } catch (const std::exception&) {
    // Beyond the system's limits of threads or memory; the destructor sends home those that started.
    return started;
  }
  return started;
}

void Pool::serve(int index) {
  for (uint32_t seen = 0;; ++seen) {
    if (!impl_->region.spin_past(seen, impl_->crowding.patience())) impl_->region.sleep_past(seen);
    if (!impl_->work) return;
    work(index, *impl_->work);
  }
}

void Pool::work(int index, FunctionRef<void(const Worker&)> fn) {
  const Worker worker(*this, index);
  if (worker.track_) worker.track_->begin(impl_->began);
  Crowding& crowding = impl_->crowding;
  const bool watched = impl_->threads > 1 && crowding.is_open();
  if (watched) crowding.begin(index, Crowding::Spent::read());
  fn(worker);
  if (worker.track_) worker.track_->stop_working();
  if (watched) crowding.note(index, Crowding::Spent::read());
  impl_->barrier(index);
}

Pool::~Pool() {
  impl_->work.reset();
  impl_->region.advance();
  impl_->team.clear();
}

int Pool::size() const { return impl_->threads; }

uint64_t Pool::pulse() const {
  constexpr uint64_t kMix = 0x9e3779b97f4a7c15;  // so that changes of two do not add up to none
  uint64_t pulse = (uint64_t{impl_->region.value()} << 32) + impl_->phase.value();
  for (const Share& share : impl_->shares) pulse = pulse * kMix + share.mark();
  return pulse;
}

void Pool::run(FunctionRef<void(const Worker&)> fn) noexcept {
  impl_->work = fn;
  if (impl_->profile) impl_->began = Profile::Clock::now();
  impl_->region.advance();
  work(0, fn);
  if (impl_->profile) impl_->profile->end();
}

void Pool::profile(Profile* profile) {
  QUERN_CHECK(!profile || profile->threads() == impl_->threads, "a profile has a track for every worker");
  impl_->profile = profile;
}

int Pool::default_threads() { return usable_cores(); }

Worker::Worker(Pool& pool, int index)
    : pool_(pool),
      track_(pool.impl_->profile ? &pool.impl_->profile->tracks_[index] : nullptr),
      index_(index),
      count_(pool.impl_->threads) {}

void Worker::barrier() const {
  if (track_) track_->stop_working();
  pool_.impl_->barrier(index_);
  if (track_) track_->stop_waiting();
}

Worker::Range Worker::share(int64_t n, int64_t grain) const {
  const auto [begin, end] = share_of(index_, count_, (n + grain - 1) / grain);
  return {std::min(n, begin * grain), std::min(n, end * grain)};
}

void Worker::work_through(int64_t n, int64_t grain, int64_t most, FunctionRef<void(int64_t, int64_t)> fn) const {
  const int64_t units = (n + grain - 1) / grain;
  QUERN_CHECK(units <= Share::kMostUnits, "more units of work than are counted");
  const int64_t piece =
      std::max<int64_t>(1, std::min(most / grain, (units + kPieces * count_ - 1) / (kPieces * count_)));
  const uint16_t turn = ++pool_.impl_->turns[index_].number;
  for (int i = 0; i < count_; ++i) {
    const int owner = (index_ + i) % count_;
    Share& share = pool_.impl_->shares[owner];
    const Share::Range whole = share_of(owner, count_, units);
    for (;;) {
      const Share::Range range = i == 0 ? share.take_front(turn, whole, piece) : share.take_back(turn, whole, piece);
      if (range.empty()) break;
      fn(range.begin * grain, std::min(n, range.end * grain));
    }
  }
}

}  // namespace quern
