// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/machine_limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "quern/engine/memory.h"
#include "quern/kernels/kernel_table.h"
#include "quern/kernels/limits.h"

namespace quern {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kPage = int64_t{2} << 20;
constexpr int64_t kMostCacheKib = int64_t{1} << 30;
constexpr int kRuns = 5;

/// Of all third-level caches; 0 where the system does not tell.
int64_t l3_bytes(const fs::path& root) {
  std::map<std::string, int64_t> caches;  // each once, by the processors that share it
  std::error_code none;
  for (const fs::directory_entry& cpu : fs::directory_iterator(root / "sys/devices/system/cpu", none))
    for (const fs::directory_entry& cache : fs::directory_iterator(cpu.path() / "cache", none)) {
      int level = 0;
      int64_t size = 0;
      char unit = 0;  // "32768K"
      std::string cpus;
      if (!(std::ifstream(cache.path() / "level") >> level) || level != 3) continue;
      if (!(std::ifstream(cache.path() / "size") >> size >> unit) || unit != 'K' || size < 0 || size > kMostCacheKib)
        continue;
      std::ifstream(cache.path() / "shared_cpu_list") >> cpus;
      caches[cpus] = size * 1024;
    }
  int64_t bytes = 0;
  for (const auto& [cpus, size] : caches) bytes += size;
  return bytes;
}

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
  const int64_t share = std::max<int64_t>(read_buffer_bytes(available_memory()) / pool.size() / kPage, 4) * kPage;
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
    std::atomic<int64_t> operations{0};
    const double seconds = timed(pool, [&](const Worker&) {
      const Int8Dots dots = kernels.int8_dots(rounds);
      QUERN_CHECK(dots.sum == dots.expected_sum(), "the loop of dot products missed some");
      operations += dots.operations;
    });
    return std::pair(seconds, static_cast<double>(operations) / seconds / 1e12);
  };
  rounds = std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(rounds) * 0.05 / std::max(once().first, 1e-6)),
                               1 << 16, int64_t{1} << 32);
  std::vector<double> rates;
  for (int run = 0; run < kRuns; ++run) rates.push_back(once().second);
  return median(std::move(rates));
}

}  // namespace

int64_t read_buffer_bytes(int64_t available, const fs::path& root) {
  return std::min(std::max(int64_t{512} << 20, 4 * l3_bytes(root)), available / 4);
}

MachineLimits measure_limits(Pool& pool, Isa isa) {
  const LimitKernels& kernels = *kernel_table(isa).limits;
  return {read_rate(pool, kernels), int_rate(pool, kernels)};
}

}  // namespace quern
