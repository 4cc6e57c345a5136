// SPDX-License-Identifier: Apache-2.0
#include "quern/server/response_store.h"

#include <mutex>
#include <unordered_map>

#include "quern/server/byte_budget.h"

namespace quern {
namespace {

/// Kept as text: its size is exact and a small part of that of the values.
class MemoryResponseStore : public ResponseStore {
 public:
  explicit MemoryResponseStore(int64_t cap_bytes) : budget_(cap_bytes) {}

  void put(std::string_view owner, std::string_view id, std::string text) override {
    std::string key = key_of(owner, id);
    const auto bytes = static_cast<int64_t>(key.size() + text.size());
    const std::lock_guard lock(mutex_);
    texts_[key] = std::move(text);
    for (const std::string& gone : budget_.add(owner, key, bytes)) texts_.erase(gone);
  }

  std::optional<Json> get(std::string_view owner, std::string_view id) override {
    std::string text;
    {
      const std::lock_guard lock(mutex_);
      const auto found = texts_.find(key_of(owner, id));
      if (found == texts_.end()) return std::nullopt;
      budget_.touch(found->first);
      text = found->second;
    }
    auto record = Json::parse(text);
    if (!record) return std::nullopt;
    return *std::move(record);
  }

  bool remove(std::string_view owner, std::string_view id) override {
    const std::lock_guard lock(mutex_);
    const std::string key = key_of(owner, id);
    budget_.remove(key);
    return texts_.erase(key) > 0;
  }

 private:
  /// An owner is a name of ours, without a zero byte: no two pairs give the same key.
  static std::string key_of(std::string_view owner, std::string_view id) {
    return std::string(owner).append(1, '\0').append(id);
  }

  std::mutex mutex_;
  std::unordered_map<std::string, std::string> texts_;  // guarded by mutex_
  ByteBudget budget_;                                   // guarded by mutex_
};

}  // namespace

std::unique_ptr<ResponseStore> make_memory_response_store(int64_t cap_bytes) {
  return std::make_unique<MemoryResponseStore>(cap_bytes);
}

}  // namespace quern
