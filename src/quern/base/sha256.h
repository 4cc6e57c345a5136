// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace quern {

/// SHA-256 (FIPS 180-4). Own code: a few hashes are not worth a library of 4 MB in a program that has no other use
/// for one.
class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  /// The hash of all updates; the object is spent.
  std::array<std::byte, 32> finish_bytes();
  /// The same as 64 hexadecimal digits.
  std::string finish();

 private:
  void block(const std::byte* data);
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};
  size_t pending_bytes_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace quern
