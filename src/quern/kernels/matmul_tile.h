// SPDX-License-Identifier: Apache-2.0
#pragma once

// Panels of integer codes times tiles of inputs, for matmul.kernel.cpp and matmul_two_streams: they differ in what is
// read at a time and how far ahead, not in operations or their order.

#include "quern/kernels/matmul.h"
#include "quern/kernels/matmul_panel.h"
#include "quern/kernels/matmul_rows.h"
#include "quern/kernels/simd_int.h"

namespace quern::QUERN_ISA {
namespace {

// Tile sizes; `registers` of rows at a time, which share every input that is broadcast. With 32 registers they may be
// of two panels. Sums of up to `kManyTokens` stay in registers, and a few more tokens still are one tile, so that
// weights are unpacked once. With 16, two of rows and 6 or 8 tokens keep sums in memory, which costs less than
// unpacking the weights more often; one token does all rows of a panel at once, so that it is read as one stream.
#if defined(QUERN_ISA_avx512)
constexpr int kTokens = 8, kManyTokens = 6;
constexpr int registers(Scales s, int tokens, Streams streams) {
  if (s == Scales::sub_16_min && tokens > 3) return 1;
  return streams == Streams::two || (tokens > 3 && tokens <= kManyTokens) ? 2 : 1;
}
constexpr int steps_at_once(Codes, int) { return 1; }
#elif defined(QUERN_ISA_neon)
constexpr int kTokens = 8, kManyTokens = 8;
constexpr int registers(Scales, int tokens, Streams) { return tokens == 1 ? kParts : 1; }
constexpr int steps_at_once(Codes, int) { return 1; }
#elif defined(QUERN_ISA_avx_vnni)
constexpr int kTokens = 8, kManyTokens = 6;
constexpr int registers(Scales, int, Streams) { return 2; }
constexpr int steps_at_once(Codes, int) { return 1; }
#else
constexpr int kTokens = 8, kManyTokens = 8;
constexpr int registers(Scales, int tokens, Streams) { return tokens == 1 ? kParts : 2; }
// Steps whose codes are in registers while all tokens' inputs pass. One, and the sums may stay there too; with more
// tokens than that allows, several, so that each sum is fetched once for all of them. Codes with a sign are two
// registers.
constexpr int steps_at_once(Codes c, int tokens) { return tokens < 5 ? 1 : codes_are_signed(c) ? 2 : 4; }
#endif
static_assert(kTokens <= kMostTileTokens);

// With one token the scales are a third of the instructions: groups that are unrolled shift them by constants. Where a
// panel is four registers of rows the code grows out of the cache of decoded instructions, and takes twice the time.
#if defined(QUERN_ISA_avx2)
constexpr bool kUnrollsGroups = true;
#else
constexpr bool kUnrollsGroups = false;
#endif

/// Whether the scales of four groups are unpacked together, for sums that are scaled as pairs.
template <Scales S>
constexpr bool kFourScales = kScalesSteps && S == Scales::sub_6_min;

// ---- A scale per 32 columns, inputs too.

template <Codes C, Scales S, int T, int R, Streams streams>
void rows_per_32(const IntegerTile& tile, int first, const std::byte* next) {
  constexpr bool kMin = scales_have_min(S), kZero = !kMin && !codes_are_signed(C);
  constexpr int kChunk = steps_at_once(C, T);
  static_assert(8 % kChunk == 0);
  Reg f[R][T];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) f[r][t] = reg_set(0);
  IntReg table = int_zero();
  if constexpr (codes_have_table(C)) table = int_table(tile.table);

  Rows rows[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) rows[r] = {tile.panel + (first + r) / kParts * tile.panel_bytes, (first + r) % kParts};
  const std::byte* inputs = tile.inputs;
  const FetchAhead<block_bytes(C, S), streams> ahead(rows[0].at, tile.panel_bytes, next);
  for (int64_t g = 0; g < tile.groups; ++g) {
    const Masks& masks = fresh_masks();
    Dot<C> dot[R][T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const IntReg start = start_per_32<C, kZero, T>(inputs, t, masks);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) dot[r][t].begin(start);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) ahead.step(rows[r], r / kParts);
#pragma GCC unroll 8
    for (int begin = 0; begin < 8; begin += kChunk) {
      CodeReg c[R][kChunk];
#pragma GCC unroll 4
      for (int i = 0; i < kChunk; ++i)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) c[r][i] = load_codes<C>(rows[r], scale_bytes(S), begin + i, table, masks);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
        for (int i = 0; i < kChunk; ++i) {
          const IntReg q = input_word(inputs + 32 * t + 4 * (begin + i));
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) dot[r][t].add(begin + i, c[r][i], q, 8);
        }
    }
    Reg scales[R], mins[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      scales[r] = group_scale<S>(rows[r]);
      if constexpr (kMin) mins[r] = rows[r].half(kPanelRows * 2);
      rows[r].at += block_bytes(C, S);
    }
    // Tokens outside: what all rows read of one is in a register for a short time only.
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const std::byte* const at = inputs + 4 * t;
      const Reg d = input_float(at + kScale32At * T), offset_d = input_float(at + kOffset32At * T);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        f[r][t] = reg_fma(without_offset(dot[r][t].sum, d, offset_d), scales[r], f[r][t]);
        if constexpr (kMin) f[r][t] = reg_fma(mins[r], input_float(at + kSum32At * T), f[r][t]);
      }
    }
    inputs += input_bytes(InputForm::per_32) * T;
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) write_rows(tile.out, t, (first + r) * kRegLanes, f[r][t]);
}

// ---- Integer scales times a number per 256 columns; inputs have a scale per 128.

/// For the panels that are read together, a group's share of a block at a time.
template <Codes C, Scales S, Streams streams>
using AheadInGroups = FetchAhead<block_bytes(C, S) / kSuperGroups, streams>;

/// One group: total += scale * (code - zero) * q, and for minima per 16 columns, mins += min * sum of q. `inputs`
/// begins the 128 columns, `quarter` of them this is; `scales` are those of these columns where four come at once.
template <Codes C, Scales S, int T, int R, Streams streams>
QUERN_INLINE void add_group(const Rows* rows, const AheadInGroups<C, S, streams>& ahead, int g, const std::byte* inputs,
                            int quarter, IntReg table, const IntReg (&scales)[R][4],
                            typename ScaledDot<C>::Total (&total)[R][T], IntReg (&mins)[R][T]) {
  constexpr int kHalves = scales_are_per_16(S) ? 2 : 1;
  constexpr int kSteps = 8 / kHalves, kChunk = steps_at_once(C, T);
  static_assert(kSteps % kChunk == 0);
  constexpr bool kMin = scales_have_min(S), kZero = !kMin && !codes_are_signed(C);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    Rows group = rows[r];
    group.at += g * (block_bytes(C, S) / kSuperGroups);
    ahead.step(group, r / kParts);
  }
  const int codes = scale_bytes(S) + g * code_bytes(C);
  const std::byte* q = inputs + quarter * 32 * T;
  const Masks& masks = fresh_masks();
#pragma GCC unroll 2
  for (int h = 0; h < kHalves; ++h) {
    IntReg pair[R];
    if constexpr (kScalesSteps)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        if constexpr (kFourScales<S>) {
          pair[r] = scales[r][quarter];
        } else {
          const IntReg scale = sub_scale<S>(rows[r], g, h, masks);
          pair[r] = pair_of(scale, scale, masks);
        }
      }
    ScaledDot<C> dot[R][T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      IntReg start = int_zero();
      if constexpr (kZero && !kScalesSteps) start = start_per_128<C, S, T>(inputs, quarter, h, t);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) dot[r][t].begin(start);
    }
#pragma GCC unroll 8
    for (int begin = 0; begin < kSteps; begin += kChunk) {
      const int step = h * kSteps + begin;
      CodeReg c[R][kChunk];
#pragma GCC unroll 4
      for (int i = 0; i < kChunk; ++i)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) c[r][i] = load_codes<C>(rows[r], codes, step + i, table, masks);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
        for (int i = 0; i < kChunk; ++i) {
          const IntReg word = input_word(q + 32 * t + 4 * (step + i));
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) dot[r][t].add(begin + i, c[r][i], word, kSteps, total[r][t], pair[r]);
        }
    }
    if constexpr (!kScalesSteps)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const IntReg weight = ScaledDot<C>::weight(sub_scale<S>(rows[r], g, h, masks), int_words(masks.half));
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) dot[r][t].end(total[r][t], weight);
      }
  }
  const std::byte* sums = inputs + (kSumsAt + 4 * quarter) * T;
  if constexpr (S == Scales::sub_16_min)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const IntReg weights = min_halves(rows[r], g, masks);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) mins[r][t] = add_pair_products(mins[r][t], weights, input_word(sums + 4 * t));
    }
  if constexpr (kZero && kScalesSteps)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const auto minus_zero = [&](int h) __attribute__((always_inline)) {
        return int_sub(int_zero(), int_left(sub_scale<S>(rows[r], g, h, masks), kZeroBits<C>));
      };
      const IntReg weights = pair_of(minus_zero(0), minus_zero(kHalves - 1), masks);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) total[r][t] = add_pair_products(total[r][t], weights, input_word(sums + 4 * t));
    }
}

template <Codes C, Scales S, int T, int R, Streams streams>
void rows_per_128(const IntegerTile& tile, int first, const std::byte* next) {
  constexpr bool kMin = scales_have_min(S);
  IntReg table = int_zero();
  if constexpr (codes_have_table(C)) table = int_table(tile.table);
  // Used once per 128 columns: in memory, so that the sums of integers have the registers.
  alignas(64) float f[R][T][kRegLanes];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) reg_store(f[r][t], reg_set(0));

  Rows rows[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) rows[r] = {tile.panel + (first + r) / kParts * tile.panel_bytes, (first + r) % kParts};
  const std::byte* inputs = tile.inputs;
  const AheadInGroups<C, S, streams> ahead(rows[0].at, tile.panel_bytes, next);
  for (int64_t half = 0; half < tile.groups / 4; ++half) {
    typename ScaledDot<C>::Total total[R][T];
    IntReg mins[R][T];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        total[r][t] = ScaledDot<C>::zero();
        mins[r][t] = kMin ? int_words(fresh_masks().offset) : int_zero();
      }
    const int first_group = half % 2 * 4;
    IntReg scales[R][4];
    if constexpr (kFourScales<S>)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) four_scales(rows[r], half % 2, fresh_masks(), scales[r]);
    if constexpr (T == 1 && kUnrollsGroups) {
      const auto group = [&](int g) __attribute__((always_inline)) {
        add_group<C, S, T, R, streams>(rows, ahead, g, inputs, g % 4, table, scales, total, mins);
      };
      if (first_group == 0)
        group(0), group(1), group(2), group(3);
      else
        group(4), group(5), group(6), group(7);
    } else {
      for (int g = 0; g < 4; ++g)
        add_group<C, S, T, R, streams>(rows, ahead, first_group + g, inputs, g, table, scales, total, mins);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Masks& masks = fresh_masks();
      const Reg number = rows[r].half(0);
      Reg min_number = reg_set(0), min_offset = reg_set(0);
      if constexpr (kMin) {
        min_number = rows[r].half(kPanelRows * 2);
        min_offset = reg_mul(min_number, reg_set(masks.minus_offset));
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        Reg sum;
        if constexpr (kMin) {
          if constexpr (S == Scales::sub_6_min) {
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i)
              mins[r][t] = add_pair_products(mins[r][t], min_pair(rows[r], first_group / 2 + i, masks),
                                             input_word(inputs + kPairsAt * T + 8 * t + 4 * i));
          }
          sum = reg_fma(number, to_floats(total[r][t]), without_offset(mins[r][t], min_number, min_offset));
        } else {
          sum = reg_mul(number, to_floats(total[r][t]));
        }
        reg_store(f[r][t], reg_fma(sum, input_float(inputs + kScaleAt * T + 4 * t), reg_load(f[r][t])));
      }
      if (first_group) rows[r].at += block_bytes(C, S);
    }
    inputs += input_bytes(InputForm::per_128) * T;
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) write_rows(tile.out, t, (first + r) * kRegLanes, reg_load(f[r][t]));
}

// ---- The table.

template <Codes C, Scales S, int T, int R, Streams streams>
void rows(const IntegerTile& tile, int first) {
  const int after = (first + R + kParts - 1) / kParts;
  const std::byte* next = after * kPanelRows < tile.out.rows ? tile.panel + after * tile.panel_bytes : tile.next;
  if constexpr (input_form(S) == InputForm::per_32)
    rows_per_32<C, S, T, R, streams>(tile, first, next);
  else
    rows_per_128<C, S, T, R, streams>(tile, first, next);
}

template <Codes C, Scales S, int T, int R, Streams streams>
void integer_tile(const IntegerTile& tile) {
  int first = 0;
  constexpr int kBeyond = R > kParts ? R - kParts : 0;  // registers of panels after the first
  for (; (first + kBeyond) * kRegLanes < tile.out.rows; first += R) rows<C, S, T, R, streams>(tile, first);
  // Of several panels the last may be alone.
  if constexpr (R > kParts)
    if (first * kRegLanes < tile.out.rows) rows<C, S, T, kParts, streams>(tile, first);
}

template <Codes C, Scales S, Streams streams, int T = kTokens>
constexpr void add(MatmulKernels& kernels) {
  kernels.tile[static_cast<int>(C)][static_cast<int>(S)][T - 1] =
      integer_tile<C, S, T, registers(S, T, streams), streams>;
  if constexpr (T > 1) add<C, S, streams, T - 1>(kernels);
}

template <Streams streams>
constexpr MatmulKernels make_table() {
  MatmulKernels kernels = {};
  kernels.tokens = kTokens;
  kernels.many_tokens = kManyTokens;
  for (int t = 0; t < kTokens; ++t) {
    const int panels = registers(Scales::half, t + 1, streams) / kParts;
    kernels.panels[t] = panels > 1 ? panels : 1;
  }
  for_every_form([&]<Codes C, Scales S>() { add<C, S, streams>(kernels); });
  return kernels;
}

}  // namespace
}  // namespace quern::QUERN_ISA
