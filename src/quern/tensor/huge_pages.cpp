// SPDX-License-Identifier: Apache-2.0
#include "quern/tensor/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

namespace quern {
namespace {

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

int64_t system_page() {
  static const int64_t bytes = ::sysconf(_SC_PAGESIZE);
  return bytes;
}

/// From `p` to the next multiple of `unit`.
int64_t gap(const std::byte* p, int64_t unit) {
  const int64_t at = static_cast<int64_t>(reinterpret_cast<intptr_t>(p));
  return round_up(at, unit) - at;
}

}  // namespace

std::shared_ptr<std::byte> map_huge_pages(int64_t bytes) {
  bytes = round_up(bytes, system_page());
  const int64_t room = bytes + kHugePage;
  void* p = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  std::byte* const first = static_cast<std::byte*>(p);
  std::byte* const start = first + gap(first, kHugePage);
  if (start != first) munmap(first, start - first);
  if (start + bytes != first + room) munmap(start + bytes, first + room - (start + bytes));
  madvise(start, bytes, MADV_HUGEPAGE);  // a wish: without it everything works, only slower
  return {start, [bytes](std::byte* q) { munmap(q, bytes); }};
}

void give_back_pages(std::byte* data, int64_t bytes) {
  const int64_t skipped = gap(data, system_page());
  const int64_t whole = (bytes - skipped) / system_page() * system_page();
  if (whole > 0) madvise(data + skipped, whole, MADV_DONTNEED);
}

}  // namespace quern
