// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace quern {

/// Scratch memory of a forward pass: pieces are taken in order and given back all at once. After the largest step has
/// run once nothing is allocated any more. One thread takes; the pieces may be used by all.
class Workspace {
 public:
  /// Uninitialised, 64-byte aligned; valid until `reset`.
  template <typename T>
  std::span<T> take(int64_t n) {
    return {reinterpret_cast<T*>(take_bytes(n * static_cast<int64_t>(sizeof(T)))), static_cast<size_t>(n)};
  }
  /// Gives everything back; memory stays, merged into one piece.
  void reset();
  int64_t bytes() const { return capacity_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  struct Chunk {
    std::unique_ptr<std::byte[], Free> data;
    int64_t size, used;
  };
  std::byte* take_bytes(int64_t n);
  std::vector<Chunk> chunks_;
  int64_t capacity_ = 0;
};

}  // namespace quern
