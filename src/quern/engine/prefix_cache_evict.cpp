// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <limits>
#include <utility>

#include "quern/engine/prefix_block.h"

// Which of what a PrefixCache holds goes first.

namespace quern {

void PrefixCache::remove(Block& block) {
  QUERN_CHECK(block.children.empty() && block.tails.empty() && block.cursors == 0, "a block that is in use");
  for (const Part part : {Part::rows, Part::windows, Part::blobs}) drop(block, part);
  block.owner->recent.erase(block.place);
  --n_blocks_;
  std::erase_if(block.parent->children, [&](const auto& child) { return child.get() == &block; });
}

void PrefixCache::drop(Block& block, Part part) {
  std::vector<PageRef>& pages = block.parts[static_cast<int>(part)];
  int64_t bytes = 0;
  for (const PageRef& page : pages) bytes += static_cast<int64_t>(page.bytes().size());
  pages.clear();
  bytes_ -= bytes;
  block.owner->bytes -= bytes;
  if (part != Part::rows) block.owner->state_bytes -= bytes;
}

std::vector<PrefixCache::Tail>::iterator PrefixCache::drop(Block& block, std::vector<Tail>::iterator tail) {
  bytes_ -= tail->bytes;
  block.owner->bytes -= tail->bytes;
  block.owner->state_bytes -= tail->bytes;
  return block.tails.erase(tail);
}

/// Of those used last at the same time the shallowest goes: talks go on at their end.
bool PrefixCache::evict_state(Owner& owner) {
  constexpr auto kNever = std::pair(std::numeric_limits<uint64_t>::max(), int64_t{0});
  auto oldest = kNever;
  Block* of = nullptr;
  bool is_tail = false;
  const auto consider = [&](std::pair<uint64_t, int64_t> used, Block* block, bool tail) {
    if (used < oldest) oldest = used, of = block, is_tail = tail;
  };
  for (Block* block : owner.recent) {
    if (!block->tails.empty()) consider({block->oldest_tail()->used, block->depth + 1}, block, true);
    if ((block->holds(Part::blobs) || block->holds(Part::windows)) && block->cursors == 0)
      consider({block->used, block->depth}, block, false);
  }
  if (!of) return false;
  if (is_tail) return drop(*of, of->oldest_tail()), true;
  drop(*of, Part::blobs);
  drop(*of, Part::windows);
  return true;
}

bool PrefixCache::evict() {
  collect();
  std::vector<Owner*> by_size;
  for (const auto& [name, owner] : owners_) by_size.push_back(owner.get());
  std::ranges::sort(by_size, std::greater(), &Owner::bytes);
  for (Owner* owner : by_size) {
    if (owner->state_bytes > owner->bytes - owner->state_bytes && evict_state(*owner)) return true;
    for (auto at = owner->recent.rbegin(); at != owner->recent.rend(); ++at) {
      Block& block = **at;
      if (!block.children.empty() || (block.tails.empty() && block.cursors > 0)) continue;
      if (block.tails.empty())
        remove(block);
      else
        drop(block, block.oldest_tail());
      return true;
    }
    if (evict_state(*owner)) return true;
  }
  return false;
}

}  // namespace quern
