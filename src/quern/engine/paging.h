// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "quern/model/model.h"

namespace quern {

// The arithmetic of pages: which of them an item of state has, and from which on later tokens still see them.

inline bool keeps_pages(const StateItem& item) {
  return item.kind == StateKind::rows || item.kind == StateKind::window;
}

inline int64_t pages_for(int64_t tokens) { return (tokens + kKvPageTokens - 1) / kKvPageTokens; }

/// The first page that the token at position `length` (the next one) or a later one can see.
inline int64_t first_live_page(const StateItem& item, int64_t length) {
  return item.kind == StateKind::window ? std::max<int64_t>(0, length - item.window + 1) / kKvPageTokens : 0;
}

inline KvLayout item_layout(const StateItem& item, KvType kv) {
  return {kv, item.heads, item.key_width, item.value_width};
}

/// Bytes of a fixed item, in whole cache lines.
inline int64_t blob_bytes(const StateItem& item) { return (item.floats * 4 + 63) / 64 * 64; }

}  // namespace quern
