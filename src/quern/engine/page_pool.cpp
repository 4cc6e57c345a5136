// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/page_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "quern/tensor/huge_pages.h"

namespace quern {
namespace {

constexpr int64_t kFewestPages = 8;  // of a slab

}  // namespace

bool MemoryBudget::take(int64_t bytes) {
  if (bytes > limit_ - used_)
    for (PagePool* pool : pools_) pool->trim();
  if (bytes > limit_ - used_) return false;
  used_ += bytes;
  return true;
}

PageRef::PageRef(const PageRef& other) : pool_(other.pool_), index_(other.index_) {
  if (pool_) ++pool_->slots_[index_].refs;
}

PageRef& PageRef::operator=(PageRef other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(index_, other.index_);
  return *this;
}

PageRef::~PageRef() {
  if (pool_) pool_->release(index_);
}

std::byte* PageRef::data() const { return pool_ ? pool_->slots_[index_].data : nullptr; }

std::span<std::byte> PageRef::bytes() const { return {data(), static_cast<size_t>(pool_ ? pool_->page_bytes_ : 0)}; }

bool PageRef::shared() const { return pool_ && pool_->slots_[index_].refs > 1; }

PagePool::PagePool(int64_t page_bytes, MemoryBudget& budget) : page_bytes_(page_bytes), budget_(budget) {
  budget_.pools_.push_back(this);
}

PagePool::~PagePool() {
  QUERN_CHECK(in_use() == 0, "pages are still held");
  trim();
  std::erase(budget_.pools_, this);
}

void PagePool::trim() {
  for (int index : free_) {
    give_back_pages(slots_[index].data, page_bytes_);
    budget_.give(page_bytes_);
    empty_.push_back(index);
  }
  free_.clear();
}

Result<PageRef> PagePool::get() {
  if (free_.empty()) {
    if (!budget_.take(page_bytes_))
      return make_error(ErrorCode::out_of_memory,
                        "context memory: expected at most {} bytes, found {} in use and {} more needed",
                        budget_.limit(), budget_.used(), page_bytes_);
    if (PageRef page = fill_slot()) return page;
    return make_error(ErrorCode::out_of_memory, "context memory: no room for a page of {} bytes", page_bytes_);
  }
  const int index = free_.back();
  free_.pop_back();
  slots_[index].refs = 1;
  return PageRef(this, index);
}

PageRef PagePool::untouched() {
  if (page_bytes_ > budget_.room() || !budget_.take(page_bytes_)) return {};
  return fill_slot();
}

PageRef PagePool::fill_slot() {
  bool room = !empty_.empty();
  try {
    room = room || add_slot();
  } catch (...) {
    budget_.give(page_bytes_);
    throw;
  }
  if (!room) return budget_.give(page_bytes_), PageRef();
  const int index = empty_.back();
  empty_.pop_back();
  slots_[index].refs = 1;
  return PageRef(this, index);
}

bool PagePool::add_slot() {
  // All that may throw comes first: half a slot would be lost.
  const size_t slots = slots_.size() + 1;
  if (slots > slots_.capacity()) slots_.reserve(2 * slots);
  free_.reserve(slots_.capacity());  // giving back allocates nothing
  empty_.reserve(slots_.capacity());
  const int64_t stride = (page_bytes_ + 63) / 64 * 64;
  if (rest_pages_ == 0) {
    // Whole huge pages: a mapping that fills none has none.
    const int64_t bytes = (kFewestPages * stride + kHugePage - 1) / kHugePage * kHugePage;
    std::shared_ptr<std::byte> slab = map_huge_pages(bytes);
    if (!slab) return false;
    slabs_.push_back(slab);
    rest_ = slab.get();
    rest_pages_ = bytes / stride;
  }
  slots_.push_back({rest_, 0});
  rest_ += stride;
  --rest_pages_;
  empty_.push_back(static_cast<int>(slots_.size()) - 1);
  return true;
}

Result<PageRef> PagePool::copy(const PageRef& page) {
  QUERN_TRY(PageRef fresh, get());
  std::memcpy(fresh.data(), page.data(), page_bytes_);
  return fresh;
}

void PagePool::release(int index) {
  if (--slots_[index].refs == 0) free_.push_back(index);
}

}  // namespace quern
