// SPDX-License-Identifier: Apache-2.0
#include "quern/server/byte_budget.h"

#include <algorithm>
#include <utility>

namespace quern {

std::vector<std::string> ByteBudget::add(std::string_view group, std::string_view key, int64_t bytes) {
  remove(key);
  if (bytes > cap_bytes_) return {std::string(key)};
  Group& mine = groups_[std::string(group)];
  mine.order.emplace_back(key);
  mine.bytes += bytes;
  entries_.emplace(key, Entry{std::string(group), bytes, std::prev(mine.order.end())});
  bytes_ += bytes;
  std::vector<std::string> gone;
  while (bytes_ > cap_bytes_) {
    const auto largest = std::max_element(groups_.begin(), groups_.end(),
                                          [](const auto& a, const auto& b) { return a.second.bytes < b.second.bytes; });
    gone.push_back(largest->second.order.front());
    erase(entries_.find(gone.back()));
  }
  return gone;
}

void ByteBudget::touch(std::string_view key) {
  const auto entry = entries_.find(std::string(key));
  if (entry == entries_.end()) return;
  auto& order = groups_.find(entry->second.group)->second.order;
  order.splice(order.end(), order, entry->second.place);
}

void ByteBudget::remove(std::string_view key) {
  if (const auto entry = entries_.find(std::string(key)); entry != entries_.end()) erase(entry);
}

void ByteBudget::erase(Entries::iterator entry) {
  const auto group = groups_.find(entry->second.group);
  bytes_ -= entry->second.bytes;
  group->second.bytes -= entry->second.bytes;
  group->second.order.erase(entry->second.place);
  if (group->second.order.empty()) groups_.erase(group);
  entries_.erase(entry);
}

}  // namespace quern
