// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace quern {

/// Memory of packed weights: anonymous, 64-byte aligned, zeroed, on huge pages where the kernel gives them. Small
/// pieces share a mapping, which goes when the last of them does. Any thread may take; without address space
/// left that throws std::bad_alloc (physical memory runs out at the first touch, as everywhere).
class WeightMemory {
 public:
  WeightMemory() = default;
  explicit WeightMemory(int64_t bytes);
  std::byte* data() const { return data_; }

 private:
  std::shared_ptr<const void> mapping_;
  std::byte* data_ = nullptr;
};

}  // namespace quern
