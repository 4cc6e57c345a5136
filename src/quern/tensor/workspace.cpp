// SPDX-License-Identifier: Apache-2.0
#include "quern/tensor/workspace.h"

#include <algorithm>
#include <new>

namespace quern {
namespace {
constexpr int64_t kAlign = 64;
constexpr int64_t kSmallest = 1 << 16;
}  // namespace

void Workspace::Free::operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{kAlign}); }

std::byte* Workspace::take_bytes(int64_t n) {
  n = (std::max<int64_t>(n, 1) + kAlign - 1) / kAlign * kAlign;
  if (chunks_.empty() || chunks_.back().size - chunks_.back().used < n) {
    const int64_t size = std::max({n, kSmallest, capacity_});
    chunks_.push_back(
        {std::unique_ptr<std::byte[], Free>(static_cast<std::byte*>(::operator new[](size, std::align_val_t{kAlign}))),
         size, 0});
    capacity_ += size;
  }
  Chunk& chunk = chunks_.back();
  std::byte* piece = chunk.data.get() + chunk.used;
  chunk.used += n;
  return piece;
}

void Workspace::reset() {
  if (chunks_.size() > 1) {
    const int64_t total = capacity_;
    chunks_.clear();
    capacity_ = 0;
    take_bytes(total);
  }
  if (!chunks_.empty()) chunks_.front().used = 0;
}

}  // namespace quern
