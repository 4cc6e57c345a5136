// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_memory.h"

#include <sys/mman.h>

#include <mutex>
#include <new>

namespace quern {
namespace {

constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kShared = 32 << 20;
constexpr int64_t kAlign = 64;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// `bytes`, a multiple of a huge page, at such a multiple: otherwise the first and last pages would be small ones.
std::shared_ptr<std::byte> map(int64_t bytes) {
  const int64_t room = bytes + kHugePage;
  void* p = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  std::byte* const first = static_cast<std::byte*>(p);
  std::byte* const start =
      first + (round_up(reinterpret_cast<intptr_t>(first), kHugePage) - reinterpret_cast<intptr_t>(first));
  if (start != first) munmap(first, start - first);
  if (start + bytes != first + room) munmap(start + bytes, first + room - (start + bytes));
  madvise(start, bytes, MADV_HUGEPAGE);  // a wish: without it everything works, only slower
  return {start, [bytes](std::byte* q) { munmap(q, bytes); }};
}

/// An allocator, and like every allocator one for the process. A matrix of a small model is less than a huge page; with
/// a mapping of its own it would lie on small pages, and a token reads all of them.
struct SharedMappings {
  std::mutex mutex;
  // guarded by mutex
  std::weak_ptr<std::byte> current;
  int64_t used = 0;
};

SharedMappings& shared_mappings() {
  static SharedMappings mappings;
  return mappings;
}

}  // namespace

WeightMemory::WeightMemory(int64_t bytes) {
  if (bytes > kShared / 4) {
    const std::shared_ptr<std::byte> own = map(round_up(bytes, kHugePage));
    data_ = own.get();
    mapping_ = own;
    return;
  }
  SharedMappings& shared = shared_mappings();
  const std::scoped_lock lock(shared.mutex);
  std::shared_ptr<std::byte> mapping = shared.current.lock();
  if (!mapping || shared.used + bytes > kShared) {
    mapping = map(kShared);
    shared.current = mapping;
    shared.used = 0;
  }
  data_ = mapping.get() + shared.used;
  shared.used += round_up(bytes, kAlign);
  mapping_ = std::move(mapping);
}

}  // namespace quern
