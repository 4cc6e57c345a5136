// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "quern/quant/half.h"
#include "quern/quant/quant.h"

namespace quern {

/// A quantized type from the facts of its block, all that its file has to say:
///   Block (bytes only, so that it may lie anywhere), kElems, kGroup, kCodeBits, kZero or kLevels[16],
///   int code(const Block&, int group, int i) for element i of the group-th 32, uint16_t number(const Block&): the bits
///   of its binary16 scale, or with kExponent an exponent; min_number or none; where a block of 256 has integers for
///   its groups: int sub_scale(const Block&, int group), sub_min or none, kSixBits if all are 0 .. 63.
/// Decoding and packing come from the same facts and cannot disagree; known answers check the facts.
template <typename T>
struct IntegerType {
  using Block = typename T::Block;
  static constexpr bool kSuper = requires(const Block& b) { T::sub_scale(b, 0); };
  static constexpr bool kHasMin = requires(const Block& b) { T::min_number(b); };
  static constexpr bool kHasLevels = requires { T::kLevels; };
  static constexpr bool kIsExponent = requires { T::kExponent; };
  static constexpr bool kHasSixBits = requires { T::kSixBits; };
  static_assert(alignof(Block) == 1);
  static_assert(kSuper ? T::kElems == 256 && (T::kGroup == 16 || T::kGroup == 32) : T::kElems == 32 && T::kGroup == 32);
  static_assert(!kIsExponent || !(kSuper || kHasMin));
  static_assert(!kHasSixBits || (kSuper && kHasMin && T::kGroup == 32));

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
    if constexpr (kIsExponent)
      return exponent_scale(T::number(b));
    else if constexpr (kSuper)
      return half_to_float(T::number(b)) * static_cast<float>(T::sub_scale(b, group));
    else
      return half_to_float(T::number(b));
  }
  static float min(const Block& b, int group) {
    if constexpr (!kHasMin)
      return 0;
    else if constexpr (kSuper)
      return half_to_float(T::min_number(b)) * static_cast<float>(T::sub_min(b, group));
    else
      return half_to_float(T::min_number(b));
  }

  static void decode(const std::byte* blocks, float* out, int64_t n_blocks) {
    const Block* block = reinterpret_cast<const Block*>(blocks);
    for (int64_t n = 0; n < n_blocks; ++n, ++block)
      for (int group = 0; group < T::kElems / T::kGroup; ++group) {
        const float by = scale(*block, group), plus = min(*block, group);
        for (int i = group * T::kGroup; i < (group + 1) * T::kGroup; ++i) {
          const int code = T::code(*block, i / 32, i % 32);
          const float product = by * static_cast<float>(kHasLevels ? levels()[code] : code - zero());
          *out++ = kHasMin ? product + plus : product;
        }
      }
  }

  // Loading a model spends its time here. With the group a constant and halves apart (where files cut nibbles), each is
  // a few vector instructions.
  template <int Group, int First>
  static void half_group(const Block& block, uint8_t* __restrict out) {
    for (int i = First; i < First + 16; ++i) out[32 * Group + i] = static_cast<uint8_t>(T::code(block, Group, i));
  }
  static void codes(const std::byte* bytes, uint8_t* __restrict out) {
    const Block& block = *reinterpret_cast<const Block*>(bytes);
    [&]<int... Group>(std::integer_sequence<int, Group...>) {
      ((half_group<Group, 0>(block, out), half_group<Group, 16>(block, out)), ...);
    }(std::make_integer_sequence<int, T::kElems / 32>());
  }

  static void numbers(const std::byte* bytes, BlockNumbers& out) {
    const Block& block = *reinterpret_cast<const Block*>(bytes);
    out.scale = T::number(block);
    if constexpr (kHasMin) out.min = T::min_number(block);
    if constexpr (kSuper)
      for (int group = 0; group < T::kElems / T::kGroup; ++group) {
        out.scales[group] = static_cast<int8_t>(T::sub_scale(block, group));
        if constexpr (kHasMin) out.mins[group] = static_cast<int8_t>(T::sub_min(block, group));
      }
  }

  static constexpr IntegerForm kForm = {
      T::kGroup,   T::kCodeBits, zero(),
      levels(),    kHasMin,      kSuper ? ScaleKind::super : kIsExponent ? ScaleKind::exponent : ScaleKind::half,
      kHasSixBits, codes,        numbers};

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
