// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/machine_limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "quern/engine/memory.h"
#include "quern/kernels/kernel_table.h"
#include "quern/kernels/limits.h"

namespace quern {
namespace {

constexpr int64_t kPage = int64_t{2} << 20;
constexpr int kRuns = 5;

/// Anonymous memory in huge pages where the kernel gives them, as weights are.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) : mapped_(bytes + kPage) {
    void* map = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = static_cast<std::byte*>(map);
    madvise(map_, mapped_, MADV_HUGEPAGE);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { munmap(map_, mapped_); }
  std::byte* data() { return map_ + (kPage - reinterpret_cast<uintptr_t>(map_) % kPage) % kPage; }

 private:
  size_t mapped_;
  std::byte* map_;
};

/// Seconds of a region, from when all workers are there until the last is done.
template <typename F>
double timed(Pool& pool, F&& work) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point start;
  pool.run([&](const Worker& worker) {
    worker.barrier();
    if (worker.index() == 0) start = Clock::now();
    work(worker);
  });
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double read_rate(Pool& pool, const LimitKernels& kernels) {
  // Beyond any cache of today, but no more than a quarter of what is free.
  const int64_t wanted = std::min<int64_t>(int64_t{512} << 20, available_memory() / 4);
  const int64_t share = std::max<int64_t>(wanted / pool.size() / kPage, 4) * kPage;
  Buffer buffer(share * pool.size());
  // The thread that will read a share touches it first.
  pool.run([&](const Worker& worker) { std::memset(buffer.data() + worker.index() * share, 1, share); });
  std::atomic<uint64_t> seen{0};
  std::vector<double> rates;
  for (int run = 0; run < kRuns; ++run) {
    const double seconds =
        timed(pool, [&](const Worker& worker) { seen |= kernels.read(buffer.data() + worker.index() * share, share); });
    rates.push_back(static_cast<double>(share) * pool.size() / seconds / 1e9);
  }
  QUERN_CHECK(seen.load() == 0x0101010101010101, "the reading loop missed bytes");
  return median(std::move(rates));
}

double int_rate(Pool& pool, const LimitKernels& kernels) {
  // As many rounds as fill a twentieth of a second on one thread.
  int64_t rounds = 1 << 20;
  const auto once = [&] {
    int64_t operations = 0;
    const double seconds = timed(pool, [&](const Worker& worker) {
      const int64_t done = kernels.int8_dots(rounds);
      if (worker.index() == 0) operations = done;
    });
    return std::pair(seconds, static_cast<double>(operations) * pool.size() / seconds / 1e12);
  };
  rounds = std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(rounds) * 0.05 / std::max(once().first, 1e-6)),
                               1 << 16, int64_t{1} << 32);
  std::vector<double> rates;
  for (int run = 0; run < kRuns; ++run) rates.push_back(once().second);
  return median(std::move(rates));
}

}  // namespace

MachineLimits measure_limits(Pool& pool, Isa isa) {
  const LimitKernels& kernels = *kernel_table(isa).limits;
  return {read_rate(pool, kernels), int_rate(pool, kernels)};
}

}  // namespace quern
