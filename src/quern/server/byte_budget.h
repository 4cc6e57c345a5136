// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace quern {

/// Which of many entries go when they take more bytes together than they may: of the group that holds the most, the one
/// used longest ago. So one group cannot push out what a smaller one keeps. One thread at a time.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t cap_bytes) : cap_bytes_(cap_bytes) {}

  /// A new entry, or one that has changed, as the one used last. Returns the keys that go for it; alone too large, it
  /// goes itself and nothing else does.
  std::vector<std::string> add(std::string_view group, std::string_view key, int64_t bytes);
  /// An unknown key: nothing.
  void touch(std::string_view key);
  void remove(std::string_view key);

  int64_t bytes() const { return bytes_; }
  size_t entries() const { return entries_.size(); }

 private:
  struct Group {
    std::list<std::string> order;  // of keys, longest unused first
    int64_t bytes = 0;
  };
  struct Entry {
    std::string group;
    int64_t bytes;
    std::list<std::string>::iterator place;
  };
  using Entries = std::unordered_map<std::string, Entry>;
  void erase(Entries::iterator entry);

  int64_t cap_bytes_, bytes_ = 0;
  std::map<std::string, Group, std::less<>> groups_;
  Entries entries_;
};

}  // namespace quern
