// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul.h"

#include "quern/kernels/simd_int.h"

namespace quern::QUERN_ISA {
namespace {

// Tile sizes that keep all sums in registers. A tile of few tokens does all 16 rows at once, so that the panel is read
// as one stream; a larger one does one register of rows after the other.
#if defined(QUERN_ISA_avx512)
constexpr int kIntegerTokens = 8, kFloatTokens = 6;
#elif defined(QUERN_ISA_neon)
constexpr int kIntegerTokens = 8, kFloatTokens = 6;
#else
constexpr int kIntegerTokens = 4, kFloatTokens = 3;
#endif
constexpr int integer_parts(int tokens) { return tokens == 1 ? kParts : 1; }
constexpr int float_parts(int tokens) { return tokens == 1 && kParts > 1 ? 2 : 1; }

static_assert(kIntegerTokens <= kMostTileTokens && kFloatTokens <= kMostTileTokens);

/// Rows of a register that starts at row `first`; y = sum [+ bias] [+ y].
QUERN_INLINE void write_rows(const PanelOutput& out, int token, int first, Reg sum) {
  float* y = out.y + token * out.stride + first;
  const int rows = out.rows - first;
  if (rows >= kRegLanes) {
    if (out.bias) sum = reg_add(sum, reg_load(out.bias + first));
    if (out.add) sum = reg_add(reg_load(y), sum);
    reg_store(y, sum);
    return;
  }
  float lanes[kRegLanes];
  reg_store(lanes, sum);
  for (int r = 0; r < rows; ++r) {
    const float biased = out.bias ? lanes[r] + out.bias[first + r] : lanes[r];
    y[r] = out.add ? y[r] + biased : biased;
  }
}

// ---- Integer codes.

/// Scales or minima of a register of rows; `super` are their numbers for 256 columns.
template <Scales S>
QUERN_INLINE Reg load_scales(const std::byte* p, const std::byte* super, int part) {
  if constexpr (scales_have_super(S)) {
    const Reg numbers = reg_load(reinterpret_cast<const float*>(super) + part * kRegLanes);
    return reg_mul(reg_load_int8(reinterpret_cast<const int8_t*>(p) + part * kRegLanes), numbers);
  } else if constexpr (scales_are_half(S)) {
#if defined(QUERN_ISA_x86_64_v2)
    __builtin_unreachable();
#else
    return reg_load_half(p + part * kRegLanes * 2);
#endif
  } else {
    return reg_load(reinterpret_cast<const float*>(p) + part * kRegLanes);
  }
}

/// Columns 4 step .. 4 step + 3 of a register of rows.
template <Codes C>
QUERN_INLINE CodeReg load_codes(const std::byte* codes, int step, int part, IntReg table) {
  const std::byte* vector = codes + (codes_are_bytes(C) ? step : step % 4) * 64 + part * kRegBytes;
  IntReg v = int_load(vector);
  if constexpr (!codes_are_bytes(C)) v = step < 4 ? low_nibbles(v) : high_nibbles(v);
  if constexpr (codes_have_table(C)) v = look_up(table, v);
  return code_reg<C>(v);
}

template <Codes C, Scales S, int T, int P>
void integer_rows(const IntegerTile& tile, int first_part) {
  constexpr int kScaled = scales_per_group(S), kSteps = 8 / kScaled;
  constexpr bool kMin = scales_have_min(S);
  constexpr bool kZero = !kMin && !(kSignedWide && (C == Codes::wide_bytes || C == Codes::wide_table));

  Reg f[P][T];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) f[p][t] = reg_set(0);

  IntReg table = int_zero();
  if constexpr (codes_have_table(C)) table = int_table(tile.table);
  // -zero for the sums of columns that a scale covers: both, the lower or the upper.
  const uint32_t minus_zero = static_cast<uint16_t>(-tile.zero);
  const IntReg zero_words[2] = {
      int_words(static_cast<int32_t>(kScaled == 2 ? minus_zero : minus_zero << 16 | minus_zero)),
      int_words(static_cast<int32_t>(minus_zero << 16))};

  const std::byte* group = tile.panel;
  const std::byte* super = group;
  const std::byte* inputs = tile.inputs;
  for (int64_t g = 0; g < tile.groups; ++g) {
    if (scales_have_super(S) && g % kSuperGroups == 0) {
      super = group;
      group += super_bytes(S);
    }
    const std::byte* codes = group + scale_bytes(S) * (kMin ? 2 : 1);
#pragma GCC unroll 2
    for (int h = 0; h < kScaled; ++h) {
      Dot<C> dot[P][T];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        IntReg start = int_zero();
        if constexpr (kZero) start = pair_products(int_words(word_at(inputs + 36 * T + 4 * t)), zero_words[h]);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) dot[p][t].begin(start);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kSteps; ++i) {
        const int step = h * kSteps + i;
        CodeReg c[P];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) c[p] = load_codes<C>(codes, step, first_part + p, table);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          const IntReg q = int_words(word_at(inputs + 32 * t + 4 * step));
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) dot[p][t].add(i, c[p], q, kSteps);
        }
      }
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const int scales_at = h * scale_bytes(S) / kScaled;
        const Reg scale = load_scales<S>(group + scales_at, super, first_part + p);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          const Reg d = reg_set(reinterpret_cast<const float*>(inputs + 32 * T)[t]);
          f[p][t] = reg_fma(to_floats(dot[p][t].sum), reg_mul(scale, d), f[p][t]);
        }
        if constexpr (kMin) {
          const Reg min =
              load_scales<S>(group + scale_bytes(S) + scales_at, super + super_bytes(S) / 2, first_part + p);
          constexpr int kSums = kScaled == 1 ? 40 : 44;
#pragma GCC unroll 16
          for (int t = 0; t < T; ++t)
            f[p][t] = reg_fma(min, reg_set(reinterpret_cast<const float*>(inputs + (kSums + 4 * h) * T)[t]), f[p][t]);
        }
      }
    }
    group += group_bytes(C, S);
    inputs += kInputGroupBytes * T;
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) write_rows(tile.out, t, (first_part + p) * kRegLanes, f[p][t]);
}

template <Codes C, Scales S, int T>
void integer_tile(const IntegerTile& tile) {
  constexpr int P = integer_parts(T);
  for (int part = 0; part < kParts && part * kRegLanes < tile.out.rows; part += P) integer_rows<C, S, T, P>(tile, part);
}

// ---- Floats.

template <FloatForm F>
QUERN_INLINE Reg load_weights(const std::byte* p) {
  if constexpr (F == FloatForm::f32) return reg_load(reinterpret_cast<const float*>(p));
  if constexpr (F == FloatForm::bf16) return reg_load_bf16(reinterpret_cast<const uint16_t*>(p));
#if !defined(QUERN_ISA_x86_64_v2)
  if constexpr (F == FloatForm::f16) return reg_load_half(p);
#endif
  __builtin_unreachable();
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

// ---- Inputs.

#if defined(__x86_64__)

/// 16 floats times `scale`, rounded; returns the sum. In 128-bit steps on every level: it is not worth more.
QUERN_INLINE int32_t round_16(const float* x, __m128 scale, std::byte* q) {
  __m128i words[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) words[i] = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(x + 4 * i), scale));
  const __m128i bytes = _mm_packs_epi16(_mm_packs_epi32(words[0], words[1]), _mm_packs_epi32(words[2], words[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), bytes);
  __m128i sum = _mm_madd_epi16(_mm_maddubs_epi16(_mm_set1_epi8(1), bytes), _mm_set1_epi16(1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}
QUERN_INLINE int32_t round_32(const float* x, float scale, std::byte* q, int32_t* low) {
  const __m128 scales = _mm_set1_ps(scale);
  *low = round_16(x, scales, q);
  return round_16(x + 16, scales, q + 16);
}

/// The bits of the largest |x|: as integers they are ordered, and infinity and NaN are the largest.
QUERN_INLINE uint32_t largest_of_32(const float* x) {
  const __m128i magnitude = _mm_set1_epi32(0x7fffffff);
  __m128i largest = _mm_setzero_si128();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    largest =
        _mm_max_epi32(largest, _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 4 * i)), magnitude));
  largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0x4e));
  largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(largest));
}

#else

QUERN_INLINE int32_t round_16(const float* x, float scale, std::byte* q) {
  int32x4_t words[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) words[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), scale));
  const int8x16_t bytes = vcombine_s8(vqmovn_s16(vcombine_s16(vqmovn_s32(words[0]), vqmovn_s32(words[1]))),
                                      vqmovn_s16(vcombine_s16(vqmovn_s32(words[2]), vqmovn_s32(words[3]))));
  vst1q_s8(reinterpret_cast<int8_t*>(q), bytes);
  return vaddlvq_s8(bytes);
}
QUERN_INLINE int32_t round_32(const float* x, float scale, std::byte* q, int32_t* low) {
  *low = round_16(x, scale, q);
  return round_16(x + 16, scale, q + 16);
}
QUERN_INLINE uint32_t largest_of_32(const float* x) {
  uint32x4_t largest = vdupq_n_u32(0);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    largest = vmaxq_u32(largest, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + 4 * i)), vdupq_n_u32(0x7fffffff)));
  return vmaxvq_u32(largest);
}

#endif

void quantize(const float* x, int64_t groups, int tokens, int token, std::byte* tile) {
  constexpr uint32_t kInfinity = 0x7f800000, kTiny = 0x0d800000;  // 2^-100
  for (int64_t g = 0; g < groups; ++g, x += kGroupColumns, tile += kInputGroupBytes * tokens) {
    const uint32_t bits = largest_of_32(x);
    float largest;
    __builtin_memcpy(&largest, &bits, 4);
    const bool zero = bits < kTiny, finite = bits < kInfinity;
    float d = largest / 127, scale = 127 / largest;
    if (zero) d = 0;
    if (!finite) d = __builtin_nanf("");

    std::byte* q = tile + 32 * token;
    int32_t low = 0, high = 0;
    if (zero || !finite)
      __builtin_memset(q, 0, 32);
    else
      high = round_32(x, scale, q, &low);
    const int16_t sums[2] = {static_cast<int16_t>(low), static_cast<int16_t>(high)};
    __builtin_memcpy(tile + 36 * tokens + 4 * token, sums, 4);
    const auto put = [&](int at, float value) { __builtin_memcpy(tile + at * tokens + 4 * token, &value, 4); };
    put(32, d);
    put(40, d * static_cast<float>(low + high));
    put(44, d * static_cast<float>(low));
    put(48, d * static_cast<float>(high));
  }
}

// ---- The table.

template <Codes C, Scales S, int T = kIntegerTokens>
constexpr void add_integer(MatmulKernels& kernels) {
  kernels.integer[static_cast<int>(C)][static_cast<int>(S)][T - 1] = integer_tile<C, S, T>;
  if constexpr (!kSignedWide && C == Codes::table)
    kernels.integer[static_cast<int>(Codes::wide_table)][static_cast<int>(S)][T - 1] = integer_tile<C, S, T>;
  if constexpr (!kSignedWide && C == Codes::bytes && !scales_have_min(S))
    kernels.integer[static_cast<int>(Codes::wide_bytes)][static_cast<int>(S)][T - 1] = integer_tile<C, S, T>;
  if constexpr (T > 1) add_integer<C, S, T - 1>(kernels);
}

template <Codes C>
constexpr void add_codes(MatmulKernels& kernels) {
#if !defined(QUERN_ISA_x86_64_v2)
  add_integer<C, Scales::half>(kernels);
#endif
  add_integer<C, Scales::single>(kernels);
  add_integer<C, Scales::sub>(kernels);
  add_integer<C, Scales::sub_16>(kernels);
  if constexpr (C == Codes::nibbles || C == Codes::bytes) {
#if !defined(QUERN_ISA_x86_64_v2)
    add_integer<C, Scales::half_min>(kernels);
#endif
    add_integer<C, Scales::single_min>(kernels);
    add_integer<C, Scales::sub_min>(kernels);
    add_integer<C, Scales::sub_16_min>(kernels);
  }
}

template <FloatForm F, int T = kFloatTokens>
constexpr void add_float(MatmulKernels& kernels) {
  kernels.floats[static_cast<int>(F)][T - 1] = float_tile<F, T>;
  if constexpr (T > 1) add_float<F, T - 1>(kernels);
}

constexpr MatmulKernels make_table() {
  MatmulKernels kernels = {};
  kernels.integer_tokens = kIntegerTokens;
  kernels.float_tokens = kFloatTokens;
  add_codes<Codes::nibbles>(kernels);
  add_codes<Codes::table>(kernels);
  add_codes<Codes::bytes>(kernels);
  if constexpr (kSignedWide) {
    add_codes<Codes::wide_table>(kernels);
    add_codes<Codes::wide_bytes>(kernels);
  }
  add_float<FloatForm::f32>(kernels);
  add_float<FloatForm::bf16>(kernels);
#if !defined(QUERN_ISA_x86_64_v2)
  kernels.reads_half = true;
  add_float<FloatForm::f16>(kernels);
#endif
  kernels.quantize = quantize;
  return kernels;
}

}  // namespace

extern const MatmulKernels matmul_kernels;
constinit const MatmulKernels matmul_kernels = make_table();

}  // namespace quern::QUERN_ISA
