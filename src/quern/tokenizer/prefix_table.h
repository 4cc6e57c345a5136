// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Texts and their ids, walked byte by byte: a sorted list that each byte narrows. As a trie, in a fraction of its
/// memory. The texts belong to someone who stays where he is.
class PrefixTable {
 public:
  void add(std::string_view text, TokenId id) {
    if (!text.empty()) entries_.emplace_back(text, id);
  }

  /// After the last `add`; of equal texts the lowest id stays.
  void build() {
    std::sort(entries_.begin(), entries_.end());
    const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
    entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
    for (uint32_t i = 0; i < entries_.size(); ++i) {
      auto& [begin, end] = first_byte_[static_cast<uint8_t>(entries_[i].first[0])];
      if (begin == end) begin = i;
      end = i + 1;
    }
  }

  bool empty() const { return entries_.empty(); }
  bool can_start(char byte) const {
    const auto& [begin, end] = first_byte_[static_cast<uint8_t>(byte)];
    return begin != end;
  }

  /// Calls found(length, id) for every text that `text` begins with, the shortest first.
  template <typename Found>
  void for_each_prefix(std::string_view text, Found found) const {
    if (text.empty()) return;
    auto [low, high] = first_byte_[static_cast<uint8_t>(text[0])];
    for (size_t length = 1; low < high; ++length) {  // the entries that begin with these `length` bytes
      if (entries_[low].first.size() == length) found(length, entries_[low++].second);
      if (length >= text.size()) return;
      const auto next = static_cast<uint8_t>(text[length]);
      const auto begin = entries_.begin();
      const auto byte_of = [length](const Entry& e) { return static_cast<uint8_t>(e.first[length]); };
      const auto from =
          std::partition_point(begin + low, begin + high, [&](const Entry& e) { return byte_of(e) < next; });
      const auto to = std::partition_point(from, begin + high, [&](const Entry& e) { return byte_of(e) == next; });
      low = static_cast<uint32_t>(from - begin);
      high = static_cast<uint32_t>(to - begin);
    }
  }

 private:
  using Entry = std::pair<std::string_view, TokenId>;
  std::vector<Entry> entries_;
  std::array<std::pair<uint32_t, uint32_t>, 256> first_byte_{};
};

}  // namespace quern
