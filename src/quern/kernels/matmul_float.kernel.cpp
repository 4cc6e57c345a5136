// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul.h"
#include "quern/kernels/matmul_rows.h"
#include "quern/kernels/simd_int.h"

namespace quern::QUERN_ISA {
namespace {

// Four sums for every row and token stay in registers.
#if defined(QUERN_ISA_avx512) || defined(QUERN_ISA_neon)
constexpr int kFloatTokens = 6;
#else
constexpr int kFloatTokens = 3;
#endif
static_assert(kFloatTokens <= kMostTileTokens);
constexpr int float_parts(int tokens) { return tokens == 1 && kParts > 1 ? 2 : 1; }

template <FloatForm F>
QUERN_INLINE Reg load_weights(const std::byte* p) {
  if constexpr (F == FloatForm::f32) return reg_load(reinterpret_cast<const float*>(p));
  if constexpr (F == FloatForm::bf16) return reg_load_bf16(reinterpret_cast<const uint16_t*>(p));
  if constexpr (F == FloatForm::f16) return reg_load_half(p);
}

/// Column k goes to sum k mod 4, so that an error grows with a quarter of the columns and latencies overlap.
template <FloatForm F, int T, int P>
void float_rows(const FloatTile& tile, int first_part) {
  constexpr int kWidth = F == FloatForm::f32 ? 4 : 2;
  Reg sum[4][P][T];
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) sum[s][p][t] = reg_set(0);

  const std::byte* weights = tile.panel + first_part * kRegLanes * kWidth;
  const auto column = [&](int64_t k, int s) __attribute__((always_inline)) {
    Reg w[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) w[p] = load_weights<F>(weights + (k * kPanelRows + p * kRegLanes) * kWidth);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const Reg x = reg_set(tile.x[t * tile.x_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sum[s][p][t] = reg_fma(w[p], x, sum[s][p][t]);
    }
  };
  int64_t k = 0;
  for (; k + 4 <= tile.columns; k += 4) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) column(k + s, s);
  }
#pragma GCC unroll 3
  for (int s = 0; s < 3; ++s)
    if (k + s < tile.columns) column(k + s, s);

#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
      write_rows(tile.out, t, (first_part + p) * kRegLanes,
                 reg_add(reg_add(sum[0][p][t], sum[1][p][t]), reg_add(sum[2][p][t], sum[3][p][t])));
}

template <FloatForm F, int T>
void float_tile(const FloatTile& tile) {
  constexpr int P = float_parts(T);
  for (int part = 0; part < kParts && part * kRegLanes < tile.out.rows; part += P) float_rows<F, T, P>(tile, part);
}

template <FloatForm F, int T = kFloatTokens>
constexpr void add_float(FloatMatmulKernels& kernels) {
  kernels.tile[static_cast<int>(F)][T - 1] = float_tile<F, T>;
  if constexpr (T > 1) add_float<F, T - 1>(kernels);
}

constexpr FloatMatmulKernels make_table() {
  FloatMatmulKernels kernels = {};
  kernels.tokens = kFloatTokens;
  add_float<FloatForm::f32>(kernels);
  add_float<FloatForm::bf16>(kernels);
  add_float<FloatForm::f16>(kernels);
  return kernels;
}

}  // namespace

extern const FloatMatmulKernels float_matmul_kernels;
constinit const FloatMatmulKernels float_matmul_kernels = make_table();

}  // namespace quern::QUERN_ISA
