// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "quern/base/result.h"

namespace quern {

class PagePool;

/// Bytes that all state of an engine may take together. Engine thread only; outlives its pools.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t limit) : limit_(limit) {}
  int64_t room() const { return limit_ - used_; }
  /// False if it would go beyond the limit even after every pool gave its idle pages back.
  bool take(int64_t bytes);
  void give(int64_t bytes) { used_ -= bytes; }
  int64_t used() const { return used_; }
  int64_t limit() const { return limit_; }

 private:
  friend class PagePool;
  int64_t limit_, used_ = 0;
  std::vector<PagePool*> pools_;
};

/// A counted hold on one page. Copies share it; the page goes back to its pool with the last one.
class PageRef {
 public:
  PageRef() = default;
  PageRef(const PageRef& other);
  PageRef(PageRef&& other) noexcept : pool_(other.pool_), index_(other.index_) { other.pool_ = nullptr; }
  PageRef& operator=(PageRef other) noexcept;
  ~PageRef();

  explicit operator bool() const { return pool_ != nullptr; }
  std::byte* data() const;
  std::span<std::byte> bytes() const;
  /// Somebody else holds it too: copy before writing.
  bool shared() const;
  void reset() { *this = PageRef(); }

 private:
  friend class PagePool;
  PageRef(PagePool* pool, int index) : pool_(pool), index_(index) {}
  PagePool* pool_ = nullptr;
  int index_ = 0;
};

/// Pages of one size, 64-byte aligned, their content undefined. They lie side by side on huge pages, and a new one is
/// not touched: its memory comes from the worker that first writes to it, not all from the engine's thread beforehand.
/// Freed pages are kept for the next `get`, until another pool of the same budget needs the room. The budget counts
/// pages, not what is left at the end of a slab, less than a page. Engine thread only; outlives its PageRefs.
class PagePool {
 public:
  PagePool(int64_t page_bytes, MemoryBudget& budget);
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  /// out_of_memory when the budget is spent.
  Result<PageRef> get();
  /// A page without memory, however many idle ones there are; null where the budget has no room left.
  PageRef untouched();
  /// A page of its own with the same content.
  Result<PageRef> copy(const PageRef& page);

  /// Gives the memory of idle pages back to the budget.
  void trim();

  int64_t page_bytes() const { return page_bytes_; }
  /// Pages that wait for `get`.
  int64_t idle() const { return std::ssize(free_); }
  int64_t in_use() const { return static_cast<int64_t>(slots_.size() - free_.size() - empty_.size()); }

 private:
  friend class PageRef;
  struct Slot {
    std::byte* data;
    int refs;
  };
  /// Makes one of those without memory, which the budget has paid for, a page; null without address space.
  PageRef fill_slot();
  /// One more empty slot; false without address space.
  bool add_slot();
  void release(int index);

  const int64_t page_bytes_;  // constant after construction
  MemoryBudget& budget_;
  std::vector<std::shared_ptr<std::byte>> slabs_;  // where the pages lie
  std::byte* rest_ = nullptr;                      // of the last slab: room for as many more pages
  int64_t rest_pages_ = 0;
  std::vector<Slot> slots_;
  std::vector<int> free_;   // slots with an idle page
  std::vector<int> empty_;  // slots whose page has no memory
};

}  // namespace quern
