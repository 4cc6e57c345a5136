// SPDX-License-Identifier: Apache-2.0
#include "tests/allocation/counted_new.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> made{0}, failing{-1};

void* count(std::size_t bytes, std::size_t alignment) {
  if (made.fetch_add(1, std::memory_order_relaxed) == failing.load(std::memory_order_relaxed)) return nullptr;
  return std::aligned_alloc(alignment, (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment);
}

void* count_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* p = count(bytes, alignment)) return p;
  throw std::bad_alloc();
}

constexpr std::size_t kPlain = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

// Those for arrays too: a sanitizer's would not call the others.
void* operator new(std::size_t n) { return count_or_throw(n, kPlain); }
void* operator new[](std::size_t n) { return count_or_throw(n, kPlain); }
void* operator new(std::size_t n, std::align_val_t a) { return count_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return count_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return count(n, kPlain); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return count(n, kPlain); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return count(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return count(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }

namespace quern {

int64_t allocations() { return made.load(); }
void fail_allocation(int64_t number) { failing = number; }

}  // namespace quern
