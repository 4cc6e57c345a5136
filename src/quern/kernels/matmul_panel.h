// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the tiles of integers read a panel and their inputs, for matmul_tile.h and matmul_unpacked: codes of a step,
// scales and minima.

#include "quern/kernels/matmul.h"
#include "quern/kernels/simd_int.h"

namespace quern::QUERN_ISA {
namespace {

/// A register of rows: where its panel is read, and which part of the panel's vectors it is.
struct Rows {
  const std::byte* at;
  int part;

  QUERN_INLINE const std::byte* vector(int offset) const { return at + offset + part * kRegBytes; }
  QUERN_INLINE Reg half(int offset) const { return reg_load_half(at + offset + part * kRegLanes * 2); }
  QUERN_INLINE IntReg int8(int offset) const { return int_load_int8(at + offset + part * kRegLanes); }
};

/// How a tile reads few tokens' weights from memory. `one`: two panels at a time only where they share the inputs of
/// many tokens, lines asked for 10 KiB ahead. `two`: by twos wherever registers allow it, lines asked for first to the
/// second-level cache, which on Intel's servers waits for three times as many at a time as the first, then to that.
enum class Streams { one, two };

/// Asks for weights ahead of their use, as many steps of `Bytes` as panels have: in each panel up to its end, then in
/// the one that follows it, but never further than that. No branches: with one in their loops GCC moves sums to memory.
template <int Bytes, Streams streams>
struct FetchAhead {
  const std::byte* end;  ///< of the panel of the first rows; the others follow
  int64_t panel_bytes;
  int64_t jump;  ///< from there to the panel that follows
  int64_t far = 32768 / Bytes * Bytes, near = (streams == Streams::two ? 2048 : 10240) / Bytes * Bytes;

  /// Panels from `panel` on are read together, then those from `next` on.
  QUERN_INLINE FetchAhead(const std::byte* panel, int64_t bytes, const std::byte* next)
      : end(panel + bytes), panel_bytes(bytes), jump(next - end) {
    if (far > panel_bytes) far = panel_bytes;
    if (near > panel_bytes) near = panel_bytes;
  }

  /// In panel `index` of these, which is read at `rows`. Each line once: parts of a register row share them.
  QUERN_INLINE void step(const Rows& rows, int index) const {
    if (rows.part != 0) return;
    if constexpr (streams == Streams::two) ask<2>(rows.at + far, index);
    ask<3>(rows.at + near, index);
  }

 private:
  /// `locality` as __builtin_prefetch counts it: 3 is to the first cache, 2 to the second.
  template <int locality>
  QUERN_INLINE void ask(const std::byte* at, int index) const {
    if (at >= end + index * panel_bytes) at += jump;
#pragma GCC unroll 16
    for (int i = 0; i < Bytes; i += 64) __builtin_prefetch(at + i, 0, locality);
  }
};

/// Masks as a compiler cannot know them: it would move them out of the loops into registers that the sums need. Loaded
/// again in every group they cost nothing, most as an operand in memory.
struct Masks {
  int32_t low_nibbles = 0x0f0f0f0f, bit_4 = 0x10101010, bits_45 = 0x30303030;                               // of bytes
  int32_t low_4 = 15, bits_4_5 = 0x30, half = 0xffff, half_low_4 = 0x000f000f, half_bits_4_5 = 0x00300030;  // of lanes
  int32_t offset = kOffsetBits;
  float minus_offset = -kOffset;
};
constexpr Masks kMasks;
QUERN_INLINE const Masks& fresh_masks() {
  const Masks* masks = &kMasks;
  asm volatile("" : "+r"(masks));
  return *masks;
}

/// n < 0: to the right.
QUERN_INLINE IntReg shifted(IntReg v, int n) { return n > 0 ? int_left(v, n) : n < 0 ? int_right(v, -n) : v; }

/// The codes of a step, `codes` at the group's.
template <Codes C>
QUERN_INLINE CodeReg load_codes(const Rows& rows, int codes, int step, IntReg table, const Masks& masks) {
  if constexpr (C == Codes::bytes) return code_reg<C>(int_load(rows.vector(codes + step * 64)));
  const IntReg low_mask = int_words(masks.low_nibbles);
  IntReg v = shifted(int_load(rows.vector(codes + step % 4 * 64)), step < 4 ? 0 : -4);
  if constexpr (C == Codes::five_bits) {
    const IntReg high = shifted(int_load(rows.vector(codes + 256)), 4 - step);
    return code_reg<C>(int_and_or(v, low_mask, int_and(high, int_words(masks.bit_4))));
  }
  if constexpr (C == Codes::six_bits) {
    const IntReg high = shifted(int_load(rows.vector(codes + 256 + step / 4 * 64)), 4 - 2 * (step % 4));
    return code_reg<C>(int_and_or(v, low_mask, int_and(high, int_words(masks.bits_45))));
  }
  v = int_and(v, low_mask);
  if constexpr (codes_have_table(C)) v = look_up(table, v);
  return code_reg<C>(v);
}

QUERN_INLINE IntReg input_word(const std::byte* p) { return int_words(word_at(p)); }
QUERN_INLINE Reg input_float(const std::byte* p) {
  float x;
  __builtin_memcpy(&x, p, 4);
  return reg_set(x);
}

constexpr bool codes_are_signed(Codes c) { return kSignedWide && (c == Codes::bytes || c == Codes::wide_table); }

/// codes_zero as a power of two.
template <Codes C>
constexpr int kZeroBits = codes_zero(C) == 8    ? 3
                          : codes_zero(C) == 16 ? 4
                          : codes_zero(C) == 32 ? 5
                                                : 7;

// Where the parts of 32 columns of inputs begin, times the tokens of the tile.
constexpr int kScale32At = 32, kOffset32At = 36, kSum32At = 40, kStarts32At = 44;

/// What the sum of 32 columns and the `t`-th of T tokens begins at: the offset, and what makes up for the zero of
/// codes.
template <Codes C, bool Zero, int T>
QUERN_INLINE IntReg start_per_32(const std::byte* inputs, int t, const Masks& masks) {
  if constexpr (!Zero) return int_words(masks.offset);
  static_assert(codes_zero(C) == 8 || codes_zero(C) == 16 || codes_zero(C) == 128);
  constexpr int kWhich = codes_zero(C) == 8 ? 0 : codes_zero(C) == 16 ? 1 : 2;
  return input_word(inputs + (kStarts32At + 4 * kWhich) * T + 4 * t);
}

/// sum * d of a sum that began at kOffsetBits; exact but for the rounding of the product. offset_d = -kOffset * d.
// Sums of 32 columns, and of 128 the minima: int8 per 16 columns, six bits per 32.
static_assert(32 * 128 * 127 < 1 << 22 && 8 * 128 * kMostMagnitude16 < 1 << 22 && 8 * 63 * kMostMagnitude16 < 1 << 22);
QUERN_INLINE Reg without_offset(IntReg sum, Reg d, [[maybe_unused]] Reg offset_d) {
#if defined(QUERN_ISA_x86_64_v2)  // no fused product
  return reg_mul(reg_sub(as_floats(sum), reg_set(kOffset)), d);
#else
  return reg_fma(as_floats(sum), d, offset_d);
#endif
}

template <Scales S>
QUERN_INLINE Reg group_scale(const Rows& rows) {
  if constexpr (S == Scales::exponent) {
    return as_floats(int_left(int_and(rows.int8(0), int_words(255)), 23));
  } else {
    return rows.half(0);
  }
}

// Integer scales times a number per 256 columns; inputs have a scale per 128.

/// One number in both halves of each lane, or two.
QUERN_INLINE IntReg pair_of(IntReg low, IntReg high, const Masks& masks) {
  return int_and_or(low, int_words(masks.half), int_left(high, 16));
}

/// The integer scale of group g of a block, its h-th half where there are two.
template <Scales S>
QUERN_INLINE IntReg sub_scale(const Rows& rows, int g, int h, const Masks& masks) {
  if constexpr (S == Scales::sub_6_min) {
    const IntReg low = int_right_by(int_load(rows.vector(64)), 4 * g);
    const IntReg high = int_right_by(int_load(rows.vector(192)), 4 * g - 2 * (g % 2));
    return int_and_or(low, int_words(masks.low_4), int_and(high, int_words(masks.bits_4_5)));
  } else {
    constexpr int kNumbers = scales_have_min(S) ? 4 : 2;
    return rows.int8(kPanelRows * (kNumbers + (scales_are_per_16(S) ? 2 * g + h : g)));
  }
}

/// Shuffles that take byte k of each lane to both its halves.
struct ByteToHalves {
  alignas(64) uint8_t at[4][kRegBytes] = {};
  constexpr ByteToHalves() {
    for (int k = 0; k < 4; ++k)
      for (int i = 0; i < kRegBytes; ++i) at[k][i] = static_cast<uint8_t>(i % 2 ? 0x80 : i % 16 / 4 * 4 + k);
  }
};
constexpr ByteToHalves kByteToHalves;

/// The 6-bit scales of four groups, 4 `half` and those after it, each in both halves of its lane.
QUERN_INLINE void four_scales(const Rows& rows, int half, const Masks& masks, IntReg (&scales)[4]) {
  const IntReg low = int_load(rows.vector(64)), high = int_load(rows.vector(192));
  const IntReg low_mask = int_words(masks.low_nibbles), high_mask = int_words(masks.bits_45);
  const IntReg even = int_and_or(low, low_mask, int_and(high, high_mask));
  const IntReg odd = int_and_or(int_right(low, 4), low_mask, int_and(int_right(high, 2), high_mask));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto* shuffle = reinterpret_cast<const std::byte*>(kByteToHalves.at[2 * half + i / 2]);
    scales[i] = look_up(i % 2 ? odd : even, int_load(shuffle));
  }
}

/// The minima of groups 2 pair and 2 pair + 1 in the halves of the lanes.
QUERN_INLINE IntReg min_pair(const Rows& rows, int pair, const Masks& masks) {
  const IntReg low = int_right_by(int_load(rows.vector(128)), 4 * pair);
  const IntReg high = int_right_by(int_left(int_load(rows.vector(192)), 4), 8 * (pair / 2) + 2 * (pair % 2));
  return int_and_or(low, int_words(masks.half_low_4), int_and(high, int_words(masks.half_bits_4_5)));
}

/// Those of the halves of group g, of sub_16_min.
QUERN_INLINE IntReg min_halves(const Rows& rows, int g, const Masks& masks) {
  constexpr int kMins = 4 + 2 * kSuperGroups;
  return pair_of(rows.int8(kPanelRows * (kMins + 2 * g)), rows.int8(kPanelRows * (kMins + 2 * g + 1)), masks);
}

// Where the parts of 128 columns of inputs begin, times the tokens of the tile.
constexpr int kPairsAt = 128, kScaleAt = 136, kSumsAt = 140, kStartsAt = 156;

/// What the sum of a group begins at, or of its h-th half where there are two: what makes up for the zero of codes.
template <Codes C, Scales S, int T>
QUERN_INLINE IntReg start_per_128(const std::byte* inputs, int quarter, int h, int t) {
  const int which = quarter * 3 + (scales_are_per_16(S) ? h : 2);
  const IntReg start = input_word(inputs + (kStartsAt + 4 * which) * T + 4 * t);
  constexpr int kTimes = scales_are_per_16(S) ? 32 : 128;
  static_assert(codes_zero(C) == kTimes || (codes_zero(C) == 8 && kTimes == 32));
  return codes_zero(C) == kTimes ? start : int_quarter(start);
}

/// Calls add<codes, scales> for what the files of quant/ have; nothing here depends on which they are.
template <typename Add>
constexpr void for_every_form(Add add) {
  add.template operator()<Codes::nibbles, Scales::half>();
  add.template operator()<Codes::nibbles, Scales::half_min>();
  add.template operator()<Codes::nibbles, Scales::sub_16>();
  add.template operator()<Codes::nibbles, Scales::sub_16_min>();
  add.template operator()<Codes::nibbles, Scales::sub_6_min>();
  add.template operator()<Codes::table, Scales::exponent>();
  add.template operator()<Codes::wide_table, Scales::half>();
  add.template operator()<Codes::wide_table, Scales::sub>();
  add.template operator()<Codes::five_bits, Scales::half>();
  add.template operator()<Codes::five_bits, Scales::half_min>();
  add.template operator()<Codes::five_bits, Scales::sub_6_min>();
  add.template operator()<Codes::six_bits, Scales::sub_16>();
  add.template operator()<Codes::bytes, Scales::half>();
}

}  // namespace
}  // namespace quern::QUERN_ISA
