// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace quern {

enum class KvType : uint8_t { f32, bf16, int8 };

std::string_view kv_type_name(KvType type);
std::optional<KvType> find_kv_type(std::string_view name);

/// Tokens of a page: page i of a sequence holds positions 64 i .. 64 i + 63.
inline constexpr int kKvPageTokens = 64;

/// How a page holds the keys and values of 64 tokens of one layer. Per head, first all keys then all values:
///   keys   [key_width][64]    so that scores come out as vectors over tokens
///   values [64][value_width]
/// bf16 lies in pairs, what a product of pairs takes: keys [key_width / 2][64][2 columns] (an odd width is filled up
/// with zeros), values [32][value_width][2 tokens].
/// int8: behind each, 64 float scales, one per token (value = q * scale).
struct KvLayout {
  KvType type = KvType::bf16;
  int heads = 0, key_width = 0, value_width = 0;

  int64_t element_bytes() const { return type == KvType::f32 ? 4 : type == KvType::bf16 ? 2 : 1; }
  int64_t key_bytes() const { return part_bytes(type == KvType::bf16 ? (key_width + 1) / 2 * 2 : key_width); }
  int64_t value_bytes() const { return part_bytes(value_width); }
  int64_t head_bytes() const { return key_bytes() + value_bytes(); }
  /// Multiple of 64; pages are 64-byte aligned.
  int64_t page_bytes() const { return (heads * head_bytes() + 63) / 64 * 64; }
  bool operator==(const KvLayout&) const = default;

 private:
  int64_t part_bytes(int width) const {
    return kKvPageTokens * (width * element_bytes() + (type == KvType::int8 ? 4 : 0));
  }
};

/// The pages of one layer of one sequence. Null where a window has let go of a page.
struct KvView {
  KvLayout layout;
  std::span<std::byte* const> pages;
};

}  // namespace quern
