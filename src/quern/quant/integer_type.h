// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/quant/half.h"
#include "quern/quant/quant.h"

namespace quern {

/// A quantized type from the facts of its block, all that its file has to say:
///   Block (bytes only, so that it may lie anywhere), kElems, kGroup, kCodeBits, kHalfScales, kZero or kLevels[16],
///   int code(const Block&, int element), float scale(const Block&, int group), and min(const Block&, int group) or
///   none;
/// instead of the last two, where a block of 256 has one number for all its groups: float super_scale(const Block&),
///   int sub_scale(const Block&, int group), and super_min, sub_min or none.
/// Decoding and splitting come from the same facts and cannot disagree; known answers check the facts.
template <typename T>
struct IntegerType {
  using Block = typename T::Block;
  static constexpr bool kSuper = requires(const Block& b) { T::super_scale(b); };
  static constexpr bool kHasMin =
      requires(const Block& b) { T::min(b, 0); } || requires(const Block& b) { T::super_min(b); };
  static constexpr bool kHasLevels = requires { T::kLevels; };
  static_assert(alignof(Block) == 1 && T::kElems % 32 == 0 && (T::kGroup == 16 || T::kGroup == 32));

  static constexpr int zero() {
    if constexpr (kHasLevels)
      return 0;
    else
      return T::kZero;
  }
  static constexpr const int8_t* levels() {
    if constexpr (kHasLevels)
      return T::kLevels;
    else
      return nullptr;
  }
  static_assert(!(kHasMin && (kHasLevels || zero() != 0)), "kernels add a minimum or subtract a zero, not both");

  static float scale(const Block& b, int group) {
    if constexpr (kSuper)
      return T::super_scale(b) * static_cast<float>(T::sub_scale(b, group));
    else
      return T::scale(b, group);
  }
  static float min(const Block& b, int group) {
    if constexpr (!kHasMin)
      return 0;
    else if constexpr (kSuper)
      return T::super_min(b) * static_cast<float>(T::sub_min(b, group));
    else
      return T::min(b, group);
  }

  static void decode(const std::byte* blocks, float* out, int64_t n_blocks) {
    const Block* block = reinterpret_cast<const Block*>(blocks);
    for (int64_t n = 0; n < n_blocks; ++n, ++block)
      for (int group = 0; group < T::kElems / T::kGroup; ++group) {
        const float by = scale(*block, group), plus = min(*block, group);
        for (int i = group * T::kGroup; i < (group + 1) * T::kGroup; ++i) {
          const int code = T::code(*block, i);
          const float product = by * static_cast<float>(kHasLevels ? levels()[code] : code - zero());
          *out++ = kHasMin ? product + plus : product;
        }
      }
  }

  static void split(const std::byte* bytes, uint8_t* codes, float* scales, float* mins) {
    const Block& block = *reinterpret_cast<const Block*>(bytes);
    for (int i = 0; i < T::kElems; ++i) codes[i] = static_cast<uint8_t>(T::code(block, i));
    for (int group = 0; group < T::kElems / T::kGroup; ++group) {
      scales[group] = scale(block, group);
      if constexpr (kHasMin) mins[group] = min(block, group);
    }
  }

  static void split_scales(const std::byte* bytes, float* d, float* dmin, int8_t* scales, int8_t* mins) {
    if constexpr (kSuper) {
      const Block& block = *reinterpret_cast<const Block*>(bytes);
      *d = T::super_scale(block);
      if constexpr (kHasMin) *dmin = T::super_min(block);
      for (int group = 0; group < T::kElems / T::kGroup; ++group) {
        scales[group] = static_cast<int8_t>(T::sub_scale(block, group));
        if constexpr (kHasMin) mins[group] = static_cast<int8_t>(T::sub_min(block, group));
      }
    }
  }

  static constexpr IntegerForm kForm = {T::kGroup, T::kCodeBits,   zero(), levels(),
                                        kHasMin,   T::kHalfScales, split,  kSuper ? split_scales : nullptr};

  static constexpr QuantType type(std::string_view name, uint32_t gguf_id) {
    return {name, gguf_id, T::kElems, sizeof(Block), decode, nullptr, &kForm};
  }
};

/// Blocks of 32 keep elements 0..15 in the low nibbles of 16 bytes and 16..31 in the high ones.
inline int nibble_of_32(const uint8_t* bytes, int i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

/// Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes.
inline int k_scale(const uint8_t* s, int group) {
  return group < 4 ? s[group] & 63 : (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
}
inline int k_min(const uint8_t* s, int group) {
  return group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | (s[group] >> 6) << 4;
}

/// The 16 levels of the IQ4 types.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace quern
