// SPDX-License-Identifier: Apache-2.0

// Products with weights that were taken apart before: for CPUs that do 512 bits on two ports, which are the ones that
// products want. Taking a panel apart for each tile of six tokens anew would cost a third of their time. Operations
// and their order are those of matmul_tile.h, and so are the bits.

#include "quern/kernels/matmul.h"
#include "quern/kernels/matmul_panel.h"
#include "quern/kernels/matmul_rows.h"
#include "quern/kernels/simd_int.h"

namespace quern::QUERN_ISA {
namespace {

// Many tokens come in tiles of these.
constexpr int kLeastTile = 5, kMostTile = 6;
constexpr int kPanels = 2;
/// Minima per 16 columns are summed beside the products: their sums take the registers of a second panel.
constexpr int panels_at_once(Scales s) { return s == Scales::sub_16_min ? 1 : kPanels; }

static_assert(kParts == 1, "a register holds the rows of a panel");

// ---- Taking apart.

QUERN_INLINE void store(std::byte* p, IntReg v) { _mm512_store_si512(p, v); }

template <Codes C, Scales S>
void unpack(const std::byte* columns, int groups, const uint8_t* table16, UnpackedBlock& to) {
  IntReg table = int_zero();
  if constexpr (codes_have_table(C)) table = int_table(table16);
  Rows rows{columns, 0};
  const Masks& masks = fresh_masks();
  if constexpr (scales_have_super(S)) {
    reg_store(to.numbers[0], rows.half(0));
    if constexpr (scales_have_min(S)) {
      const Reg min = rows.half(kPanelRows * 2);
      reg_store(to.numbers[1], min);
      reg_store(to.numbers[2], reg_mul(min, reg_set(-kOffset)));
    }
  }
  for (int g = 0; g < groups; ++g) {
    if constexpr (scales_have_super(S)) {
      for (int h = 0; h < (scales_are_per_16(S) ? 2 : 1); ++h)
        store(to.scales[g][h], ScaledDot<C>::weight(sub_scale<S>(rows, g, h, masks), int_words(masks.half)));
      if constexpr (S == Scales::sub_16_min) store(to.mins[g], min_halves(rows, g, masks));
      if constexpr (S == Scales::sub_6_min)
        if (g % 2 == 0) store(to.mins[g / 2], min_pair(rows, g / 2, masks));
    } else {
      store(to.scales[g][0], as_integers(group_scale<S>(rows)));
      if constexpr (scales_have_min(S)) store(to.mins[g], as_integers(rows.half(kPanelRows * 2)));
    }
    const int codes = scale_bytes(S) + (scales_have_super(S) ? g * code_bytes(C) : 0);
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) store(to.codes[g][step], load_codes<C>(rows, codes, step, table, masks));
    if constexpr (!scales_have_super(S)) rows.at += block_bytes(C, S);
  }
}

// ---- Tiles.

/// dots += codes * inputs, `steps` of four columns from `first` on.
template <typename D, int T, int P>
QUERN_INLINE void add_products(const UnpackedBlock* blocks, int g, int first, int steps, const std::byte* inputs,
                               D (&dots)[P][T]) {
#pragma GCC unroll 8
  for (int step = first; step < first + steps; ++step) {
    IntReg codes[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) codes[p] = int_load(blocks[p].codes[g][step]);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const IntReg q = input_word(inputs + 32 * t + 4 * step);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) dots[p][t].sum = add_dot(dots[p][t].sum, codes[p], q);
    }
  }
}

/// Asks for the next `bytes` of the tile that follows.
QUERN_INLINE void fetch_next(const std::byte*& next, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 3);
  next += bytes;
}

template <Codes C, Scales S, int T, int P>
void columns_per_32(const UnpackedTile& tile, int first) {
  constexpr bool kMin = scales_have_min(S);
  const UnpackedBlock* blocks = tile.blocks + first;
  float* const sums = tile.sums + first * T * kPanelRows;
  Reg f[P][T];
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) f[p][t] = reg_load(sums + (p * T + t) * kPanelRows);
  const std::byte *inputs = tile.inputs, *next = tile.next;
  for (int g = 0; g < tile.groups; ++g) {
    Dot<C> dot[P][T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const IntReg start = start_per_32<C, !kMin, T>(inputs, t, fresh_masks());
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) dot[p][t].begin(start);
    }
    fetch_next(next, input_bytes(InputForm::per_32) * T);
    add_products(blocks, g, 0, 8, inputs, dot);
    // Tokens outside: what both panels read of one is in a register for a short time only.
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const std::byte* const at = inputs + 4 * t;
      const Reg d = input_float(at + kScale32At * T), offset_d = input_float(at + kOffset32At * T);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const Reg scale = as_floats(int_load(blocks[p].scales[g][0]));
        f[p][t] = reg_fma(without_offset(dot[p][t].sum, d, offset_d), scale, f[p][t]);
        if constexpr (kMin) {
          const Reg min = as_floats(int_load(blocks[p].mins[g]));
          f[p][t] = reg_fma(min, input_float(at + kSum32At * T), f[p][t]);
        }
      }
    }
    inputs += input_bytes(InputForm::per_32) * T;
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) reg_store(sums + (p * T + t) * kPanelRows, f[p][t]);
}

template <Codes C, Scales S, int T, int P>
void columns_per_128(const UnpackedTile& tile, int first) {
  constexpr bool kMin = scales_have_min(S);
  constexpr int kHalves = scales_are_per_16(S) ? 2 : 1, kSteps = 8 / kHalves;
  const UnpackedBlock* blocks = tile.blocks + first;
  float* const sums = tile.sums + first * T * kPanelRows;
  const std::byte *inputs = tile.inputs, *next = tile.next;
  for (int first_group = 0; first_group < tile.groups; first_group += 4) {
    typename ScaledDot<C>::Total total[P][T];
    IntReg mins[P][T];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        total[p][t] = ScaledDot<C>::zero();
        mins[p][t] = kMin ? int_words(fresh_masks().offset) : int_zero();
      }
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int g = first_group + quarter;
      fetch_next(next, input_bytes(InputForm::per_128) / 4 * T);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        ScaledDot<C> dot[P][T];
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          IntReg start = int_zero();
          if constexpr (!kMin) start = start_per_128<C, S, T>(inputs, quarter, h, t);
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) dot[p][t].begin(start);
        }
        add_products(blocks, g, h * kSteps, kSteps, inputs + quarter * 32 * T, dot);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const IntReg weight = int_load(blocks[p].scales[g][h]);
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) dot[p][t].end(total[p][t], weight);
        }
      }
      if constexpr (S == Scales::sub_16_min)
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t)
            mins[p][t] = add_pair_products(mins[p][t], int_load(blocks[p].mins[g]),
                                           input_word(inputs + (kSumsAt + 4 * quarter) * T + 4 * t));
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const UnpackedBlock& block = blocks[p];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Reg number = reg_load(block.numbers[0]), products = to_floats(total[p][t]);
        Reg sum;
        if constexpr (kMin) {
          if constexpr (S == Scales::sub_6_min)
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i)
              mins[p][t] = add_pair_products(mins[p][t], int_load(block.mins[first_group / 2 + i]),
                                             input_word(inputs + kPairsAt * T + 8 * t + 4 * i));
          sum = reg_fma(number, products,
                        without_offset(mins[p][t], reg_load(block.numbers[1]), reg_load(block.numbers[2])));
        } else {
          sum = reg_mul(number, products);
        }
        float* const f = sums + (p * T + t) * kPanelRows;
        reg_store(f, reg_fma(sum, input_float(inputs + kScaleAt * T + 4 * t), reg_load(f)));
      }
    }
    inputs += input_bytes(InputForm::per_128) * T;
  }
}

template <Codes C, Scales S, int T, int P>
void columns(const UnpackedTile& tile, int first) {
  if constexpr (input_form(S) == InputForm::per_32)
    columns_per_32<C, S, T, P>(tile, first);
  else
    columns_per_128<C, S, T, P>(tile, first);
}

template <Codes C, Scales S, int T>
void unpacked_tile(const UnpackedTile& tile) {
  constexpr int P = panels_at_once(S);
  int first = 0;
  for (; first + P <= tile.panels; first += P) columns<C, S, T, P>(tile, first);
  if constexpr (P > 1)
    if (first < tile.panels) columns<C, S, T, 1>(tile, first);
}

void write(const float* sums, int tokens, const PanelOutput& out) {
  for (int first = 0; first < out.rows; first += kPanelRows)
    for (int t = 0; t < tokens; ++t, sums += kPanelRows) write_rows(out, t, first, reg_load(sums));
}

// ---- The table.

// What is left of a form when its weights are apart: how scales are applied, how large codes are where that is by
// integers, and what codes stand for zero.
constexpr Scales scales_left(Scales s) { return s == Scales::exponent ? Scales::half : s; }
constexpr Codes codes_left(Codes c, Scales s) {
  if (scales_have_super(s)) return c;
  return scales_have_min(s) || codes_zero(c) == 8 ? Codes::nibbles
         : codes_zero(c) == 16                    ? Codes::five_bits
                                                  : Codes::wide_table;
}

template <Codes C, Scales S, int T = kMostTile>
constexpr void add(UnpackedKernels& kernels) {
  kernels.unpack[static_cast<int>(C)][static_cast<int>(S)] = unpack<C, S>;
  kernels.tile[static_cast<int>(C)][static_cast<int>(S)][T - 1] = unpacked_tile<codes_left(C, S), scales_left(S), T>;
  if constexpr (T > kLeastTile) add<C, S, T - 1>(kernels);
}

constexpr UnpackedKernels make_table() {
  UnpackedKernels kernels = {};
  kernels.panels = kPanels;
  kernels.least_tile = kLeastTile;
  kernels.most_tile = kMostTile;
  kernels.write = write;
  // Codes that are bytes already, too: a copy in the first-level cache is worth making.
  for_every_form([&]<Codes C, Scales S>() { add<C, S>(kernels); });
  return kernels;
}

}  // namespace

extern const UnpackedKernels unpacked_kernels;
constinit const UnpackedKernels unpacked_kernels = make_table();

}  // namespace quern::QUERN_ISA
