// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

// ---- Sixteen columns: the largest magnitude, the sum of magnitudes, bytes and their sum.

#if defined(__x86_64__)

using FourInts = __m128i;
using FourFloats = __m128;

/// Of magnitudes as bits: as integers they are ordered, infinity and NaN are the largest.
QUERN_INLINE uint32_t highest(FourInts bits) {
  bits = _mm_max_epi32(bits, _mm_shuffle_epi32(bits, 0x4e));
  bits = _mm_max_epi32(bits, _mm_shuffle_epi32(bits, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(bits));
}

#if !defined(QUERN_ISA_avx512)  // which has wider ones
QUERN_INLINE FourFloats add(FourFloats a, FourFloats b) { return _mm_add_ps(a, b); }
QUERN_INLINE FourFloats magnitudes(const float* x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), _mm_loadu_ps(x)); }
QUERN_INLINE FourInts bits_of(FourFloats v) { return _mm_castps_si128(v); }
QUERN_INLINE FourInts higher(FourInts a, FourInts b) { return _mm_max_epi32(a, b); }
QUERN_INLINE FourFloats add_neighbours(FourFloats a, FourFloats b) { return _mm_hadd_ps(a, b); }
#endif
/// a0 + a1, a2 + a3, b0 + b1, b2 + b3
QUERN_INLINE FourInts add_neighbours(FourInts a, FourInts b) { return _mm_hadd_epi32(a, b); }
QUERN_INLINE void store(int32_t* p, FourInts v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }

/// 16 floats times `scale`, rounded; returns sums of four columns.
QUERN_INLINE FourInts round_16(const float* x, float scale, std::byte* q) {
#if defined(QUERN_ISA_avx512)
  const __m128i bytes =
      _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(scale))));
#else
  __m128i words[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) words[i] = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(x + 4 * i), _mm_set1_ps(scale)));
  const __m128i bytes = _mm_packs_epi16(_mm_packs_epi32(words[0], words[1]), _mm_packs_epi32(words[2], words[3]));
#endif
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), bytes);
#if defined(QUERN_ISA_avx512)
  return _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), bytes);
#else
  return _mm_madd_epi16(_mm_maddubs_epi16(_mm_set1_epi8(1), bytes), _mm_set1_epi16(1));
#endif
}

#else

using FourInts = int32x4_t;
using FourFloats = float32x4_t;

QUERN_INLINE uint32_t highest(FourInts bits) { return vmaxvq_u32(vreinterpretq_u32_s32(bits)); }

QUERN_INLINE FourFloats add(FourFloats a, FourFloats b) { return vaddq_f32(a, b); }
QUERN_INLINE FourFloats magnitudes(const float* x) { return vabsq_f32(vld1q_f32(x)); }
QUERN_INLINE FourInts bits_of(FourFloats v) { return vreinterpretq_s32_f32(v); }
QUERN_INLINE FourInts higher(FourInts a, FourInts b) { return vmaxq_s32(a, b); }
QUERN_INLINE FourFloats add_neighbours(FourFloats a, FourFloats b) { return vpaddq_f32(a, b); }
QUERN_INLINE FourInts add_neighbours(FourInts a, FourInts b) { return vpaddq_s32(a, b); }
QUERN_INLINE void store(int32_t* p, FourInts v) { vst1q_s32(p, v); }

QUERN_INLINE FourInts round_16(const float* x, float scale, std::byte* q) {
  int32x4_t words[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) words[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), scale));
  const int8x16_t bytes = vcombine_s8(vqmovn_s16(vcombine_s16(vqmovn_s32(words[0]), vqmovn_s32(words[1]))),
                                      vqmovn_s16(vcombine_s16(vqmovn_s32(words[2]), vqmovn_s32(words[3]))));
  vst1q_s8(reinterpret_cast<int8_t*>(q), bytes);
  return vpaddlq_s16(vpaddlq_s8(bytes));
}

#endif

/// The sum of each of four, in order.
template <typename Four>
QUERN_INLINE Four four_sums(const Four (&of)[4]) {
  return add_neighbours(add_neighbours(of[0], of[1]), add_neighbours(of[2], of[3]));
}

// ---- L of matmul.h, as bits.

/// Of some columns, to be taken together with `highest`: magnitudes, and the sums of them in 16 columns.
struct Magnitudes {
  FourInts most, most_sums;
};

#if defined(QUERN_ISA_avx512)

QUERN_INLINE FourInts most_of_lanes(__m512i v) {
  const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  return _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/// (v[0] + v[4]) + (v[8] + v[12]) and so on, of each of four; those of the i-th in lane i of 128 bits.
QUERN_INLINE __m512 sums_of_quarters(const __m512 (&of)[4]) {
  const __m512 a = _mm512_shuffle_f32x4(of[0], of[1], 0x44), b = _mm512_shuffle_f32x4(of[0], of[1], 0xee);
  const __m512 c = _mm512_shuffle_f32x4(of[2], of[3], 0x44), d = _mm512_shuffle_f32x4(of[2], of[3], 0xee);
  return _mm512_add_ps(_mm512_add_ps(_mm512_shuffle_f32x4(a, c, 0x88), _mm512_shuffle_f32x4(a, c, 0xdd)),
                       _mm512_add_ps(_mm512_shuffle_f32x4(b, d, 0x88), _mm512_shuffle_f32x4(b, d, 0xdd)));
}

QUERN_INLINE Magnitudes magnitudes_of_128(const float* x) {
  __m512 of[2][4];
  __m512i most = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    of[i / 4][i % 4] = _mm512_abs_ps(_mm512_loadu_ps(x + 16 * i));
    most = _mm512_max_epi32(most, _mm512_castps_si512(of[i / 4][i % 4]));
  }
  const __m512 first = sums_of_quarters(of[0]), second = sums_of_quarters(of[1]);
  const __m512 pairs = _mm512_add_ps(_mm512_shuffle_ps(first, second, 0x88), _mm512_shuffle_ps(first, second, 0xdd));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
  return {most_of_lanes(most), most_of_lanes(_mm512_castps_si512(sums))};
}

QUERN_INLINE FourInts magnitudes_of_32(const float* x) {
  return most_of_lanes(_mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x))),
                                        _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + 16)))));
}

#else

QUERN_INLINE Magnitudes magnitudes_of_64(const float* x) {
  FourInts most = bits_of(magnitudes(x));
  FourFloats sums[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i, x += 16) {
    FourFloats of[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      of[j] = magnitudes(x + 4 * j);
      most = higher(most, bits_of(of[j]));
    }
    sums[i] = add(add(of[0], of[1]), add(of[2], of[3]));
  }
  return {most, bits_of(four_sums(sums))};
}

QUERN_INLINE Magnitudes magnitudes_of_128(const float* x) {
  const Magnitudes low = magnitudes_of_64(x), high = magnitudes_of_64(x + 64);
  return {higher(low.most, high.most), higher(low.most_sums, high.most_sums)};
}

QUERN_INLINE FourInts magnitudes_of_32(const float* x) {
  FourInts most = bits_of(magnitudes(x));
#pragma GCC unroll 7
  for (int i = 1; i < 8; ++i) most = higher(most, bits_of(magnitudes(x + 4 * i)));
  return most;
}

#endif

QUERN_INLINE uint32_t largest_of_32(const float* x) { return highest(magnitudes_of_32(x)); }

QUERN_INLINE uint32_t largest_of_128(const float* x) {
  const Magnitudes magnitudes = magnitudes_of_128(x);
  const uint32_t most = highest(magnitudes.most), most_sum = highest(magnitudes.most_sums);
  // Rounding adds up to a half to each of 16. A sum of integers, it stands errors of the products in between.
  static_assert(1015 + 16 / 2 <= kMostMagnitude16);
  float sum;
  __builtin_memcpy(&sum, &most_sum, 4);
  sum *= 127.0f / 1015;
  uint32_t enough;
  __builtin_memcpy(&enough, &sum, 4);
  return enough > most ? enough : most;
}

/// What columns are multiplied by, from L.
struct Rounding {
  float d, scale;
  bool nothing;  ///< zeros in place of numbers
  explicit Rounding(uint32_t bits) {
    constexpr uint32_t kTiny = 0x0d800000, kHuge = 0x71800000;  // 2^-100, 2^100
    float largest;
    __builtin_memcpy(&largest, &bits, 4);
    const bool zero = bits < kTiny, huge = bits >= kHuge;
    d = huge ? __builtin_nanf("") : zero ? 0 : largest / 127;
    scale = 127 / largest;
    nothing = zero || huge;
  }
};

/// Without the two last bits, so that its product with kOffset is exact.
QUERN_INLINE float short_number(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits &= ~3u;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

template <typename T>
QUERN_INLINE void put(std::byte* at, T value) {
  __builtin_memcpy(at, &value, sizeof value);
}

void round_per_32(const float* x, int64_t columns, int tokens, int token, std::byte* tile) {
  for (int64_t c = 0; c < columns; c += 32, x += 32, tile += input_bytes(InputForm::per_32) * tokens) {
    const Rounding rounding(largest_of_32(x));
    const float d = short_number(rounding.d);
    std::byte* const q = tile + 32 * token;
    int32_t sum = 0;
    if (rounding.nothing) {
      __builtin_memset(q, 0, 32);
    } else {
      const FourInts low = round_16(x, rounding.scale, q),
                     both = add_neighbours(low, round_16(x + 16, rounding.scale, q + 16));
      int32_t sums[4];
      store(sums, add_neighbours(both, both));
      sum = sums[0] + sums[1];
    }
    put(tile + 32 * tokens + 4 * token, d);
    put(tile + 36 * tokens + 4 * token, -kOffset * d);
    put(tile + 40 * tokens + 4 * token, d * static_cast<float>(sum));
    put(tile + 44 * tokens + 4 * token, kOffsetBits - 8 * sum);
    put(tile + 48 * tokens + 4 * token, kOffsetBits - 16 * sum);
    put(tile + 52 * tokens + 4 * token, kOffsetBits - 128 * sum);
  }
}

void round_per_128(const float* x, int64_t columns, int tokens, int token, std::byte* tile) {
  for (int64_t c = 0; c < columns; c += 128, x += 128, tile += input_bytes(InputForm::per_128) * tokens) {
    const Rounding rounding(largest_of_128(x));
    int32_t sums[8] = {};  // of 16 columns
    if (rounding.nothing) {
      for (int g = 0; g < 4; ++g) __builtin_memset(tile + 32 * (g * tokens + token), 0, 32);
    } else {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        FourInts parts[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          parts[i] = round_16(x + 64 * half + 16 * i, rounding.scale,
                              tile + 32 * ((2 * half + i / 2) * tokens + token) + 16 * (i % 2));
        store(sums + 4 * half, four_sums(parts));
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const int32_t low = sums[2 * g], high = sums[2 * g + 1], sum = low + high;
      put(tile + 128 * tokens + 8 * token + 2 * g, static_cast<int16_t>(sum));
      std::byte* const halves = tile + (140 + 4 * g) * tokens + 4 * token;
      put(halves, static_cast<int16_t>(low));
      put(halves + 2, static_cast<int16_t>(high));
      std::byte* const starts = tile + (156 + 12 * g) * tokens + 4 * token;
      put(starts, -32 * low);
      put(starts + 4 * tokens, -32 * high);
      put(starts + 8 * tokens, -128 * sum);
    }
    put(tile + 136 * tokens + 4 * token, rounding.d);
  }
}

}  // namespace

extern const RoundingKernels rounding_kernels;
constinit const RoundingKernels rounding_kernels = {{round_per_32, round_per_128}};

}  // namespace quern::QUERN_ISA
