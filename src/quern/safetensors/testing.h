// SPDX-License-Identifier: Apache-2.0
// For tests only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace quern::safetensors::testing {

/// A file: length, header as it is, data.
inline std::vector<std::byte> file_of(std::string_view header, std::span<const std::byte> data) {
  std::vector<std::byte> out(8 + header.size());
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

}  // namespace quern::safetensors::testing
