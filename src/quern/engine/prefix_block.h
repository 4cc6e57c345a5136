// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "quern/base/sha256.h"
#include "quern/engine/paging.h"
#include "quern/engine/prefix_cache.h"

namespace quern {

// The nodes of a PrefixCache, for its own files.

/// SHA-256 over a parent's key and what follows it.
inline StoreKey chain(const StoreKey& parent, std::span<const std::byte> more) {
  Sha256 hash;
  hash.update(parent.bytes);
  hash.update(more);
  return {hash.finish_bytes()};
}

inline std::span<const int32_t> block_ids(std::span<const int32_t> ids, int64_t depth) {
  return ids.subspan(depth * kKvPageTokens, kKvPageTokens);
}

inline bool begins_with(std::span<const int32_t> ids, std::span<const int32_t> beginning) {
  return beginning.size() <= ids.size() && std::ranges::equal(ids.first(beginning.size()), beginning);
}

/// What lies behind the whole blocks of a sequence that ended: less than a block, and all that is needed to go on
/// there.
struct PrefixCache::Tail {
  std::vector<int32_t> ids;  // behind the block it hangs on
  Checkpoint state;          // its whole pages of rows are those of the blocks
  int64_t bytes = 0;         // of what no block holds
  uint64_t used = 0;
};

/// One page of tokens of a prefix. The root of an owner has no tokens and holds nothing.
class PrefixCache::Block {
 public:
  Owner* owner = nullptr;
  Block* parent = nullptr;  // null: a root
  std::vector<int32_t> ids;
  int64_t depth = 0;  // blocks from the root, this one among them
  StoreKey key{};     // of all tokens up to here, and the owner
  std::vector<std::unique_ptr<Block>> children;
  std::vector<Tail> tails;             // kMostTails at the most
  std::vector<PageRef> parts[kParts];  // by the items of a part; empty: not held
  bool passing = false;                // its blobs may go when the sequence has come further
  int cursors = 0;
  uint64_t used = 0;
  std::list<Block*>::iterator place;  // in the owner's list

  const std::vector<PageRef>& part(Part p) const { return parts[static_cast<int>(p)]; }
  bool holds(Part p) const { return !part(p).empty(); }
  int64_t length() const { return depth * kKvPageTokens; }

  Block* child(std::span<const int32_t> wanted) const {
    for (const auto& c : children)
      if (std::ranges::equal(c->ids, wanted)) return c.get();
    return nullptr;
  }
  std::vector<Tail>::iterator oldest_tail() { return std::ranges::min_element(tails, {}, &Tail::used); }
};

struct PrefixCache::Owner {
  Block root;
  std::list<Block*> recent;  // used last in front; a parent always before its children
  int64_t bytes = 0;
  int64_t state_bytes = 0;  // of windows, blobs and tails
};

/// The blocks of a prompt that are known.
struct PrefixCache::Path {
  std::vector<Block*> blocks;  // by depth, from the root
  std::vector<StoreKey> keys;  // with a store: of those and of what it has beyond them
  int64_t known() const { return static_cast<int64_t>(std::max(blocks.size(), keys.size())) - 1; }
};

}  // namespace quern
