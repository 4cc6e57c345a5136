// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/charsmap.h"

#include "quern/base/utf8.h"

namespace quern {
namespace {

constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxReplacementBytes = 256;

uint32_t read_u32(std::string_view bytes) {
  uint32_t v = 0;
  for (int i = 3; i >= 0; --i) v = v << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
  return v;
}

// Fields of a darts-clone unit.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
uint32_t leaf_value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

}  // namespace

Result<Charsmap> Charsmap::parse(std::string_view bytes) {
  const auto bad = [](std::string_view what) { return make_error(ErrorCode::corrupt_data, "charsmap: {}", what); };
  if (bytes.size() < 4) return bad("shorter than its header");
  const uint32_t trie_bytes = read_u32(bytes);
  bytes.remove_prefix(4);
  if (trie_bytes % 4 != 0 || trie_bytes > bytes.size()) return bad("its trie does not fit into it");
  Charsmap map;
  map.units_.reserve(trie_bytes / 4);
  for (size_t at = 0; at < trie_bytes; at += 4) map.units_.push_back(read_u32(bytes.substr(at)));
  map.replacements_ = bytes.substr(trie_bytes);
  return map;
}

Charsmap::Hit Charsmap::longest(std::string_view text) const {
  Hit best;
  if (units_.empty()) return best;
  size_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size() && i < kMaxKeyBytes; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) break;
    const size_t at = leaf_value(units_[node]);
    if (at >= replacements_.size()) continue;
    const std::string_view rest = std::string_view(replacements_).substr(at, kMaxReplacementBytes);
    best = {i + 1, rest.substr(0, rest.find('\0'))};
  }
  return best;
}

std::string Charsmap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Hit hit = longest(text);
    if (hit.length > 0) {
      out += hit.with;
      text.remove_prefix(hit.length);
      continue;
    }
    const Utf8Step step = utf8_decode(text);
    out.append(text.substr(0, static_cast<size_t>(step.length)));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return out;
}

}  // namespace quern
