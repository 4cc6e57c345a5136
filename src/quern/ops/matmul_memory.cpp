// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_memory.h"

#include <mutex>
#include <new>

#include "quern/tensor/huge_pages.h"

namespace quern {
namespace {

constexpr int64_t kShared = 32 << 20;
constexpr int64_t kAlign = 64;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Of whole huge pages.
std::shared_ptr<std::byte> map(int64_t bytes) {
  std::shared_ptr<std::byte> mapping = map_huge_pages(bytes);
  if (!mapping) throw std::bad_alloc();
  return mapping;
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
