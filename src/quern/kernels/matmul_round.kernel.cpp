// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

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

/// What columns with the largest magnitude `bits` are multiplied by.
struct Rounding {
  float d, scale;
  bool nothing;  ///< zeros in place of numbers
  explicit Rounding(uint32_t bits) {
    constexpr uint32_t kInfinity = 0x7f800000, kTiny = 0x0d800000;  // 2^-100
    float largest;
    __builtin_memcpy(&largest, &bits, 4);
    const bool zero = bits < kTiny, finite = bits < kInfinity;
    d = !finite ? __builtin_nanf("") : zero ? 0 : largest / 127;
    scale = 127 / largest;
    nothing = zero || !finite;
  }
};

/// 32 columns to q; the sums of 16.
struct Sums {
  int32_t low, high;
};
QUERN_INLINE Sums round_group(const float* x, const Rounding& rounding, std::byte* q) {
  Sums sums = {0, 0};
  if (rounding.nothing)
    __builtin_memset(q, 0, 32);
  else
    sums.high = round_32(x, rounding.scale, q, &sums.low);
  return sums;
}

template <typename T>
QUERN_INLINE void put(std::byte* at, T value) {
  __builtin_memcpy(at, &value, sizeof value);
}

void round_per_32(const float* x, int64_t columns, int tokens, int token, std::byte* tile) {
  for (int64_t c = 0; c < columns; c += 32, x += 32, tile += input_bytes(InputForm::per_32) * tokens) {
    const Rounding rounding(largest_of_32(x));
    const Sums sums = round_group(x, rounding, tile + 32 * token);
    const int32_t sum = sums.low + sums.high;
    put(tile + 32 * tokens + 4 * token, rounding.d);
    put(tile + 36 * tokens + 4 * token, -8 * sum);
    put(tile + 40 * tokens + 4 * token, rounding.d * static_cast<float>(sum));
  }
}

void round_per_128(const float* x, int64_t columns, int tokens, int token, std::byte* tile) {
  for (int64_t c = 0; c < columns; c += 128, x += 128, tile += input_bytes(InputForm::per_128) * tokens) {
    uint32_t largest = 0;
    for (int g = 0; g < 4; ++g) {
      const uint32_t bits = largest_of_32(x + 32 * g);
      largest = bits > largest ? bits : largest;
    }
    const Rounding rounding(largest);
    for (int g = 0; g < 4; ++g) {
      const Sums sums = round_group(x + 32 * g, rounding, tile + 32 * (g * tokens + token));
      const int32_t sum = sums.low + sums.high;
      put(tile + 128 * tokens + 8 * token + 2 * g, static_cast<int16_t>(sum));
      std::byte* halves = tile + (140 + 4 * g) * tokens + 4 * token;
      put(halves, static_cast<int16_t>(sums.low));
      put(halves + 2, static_cast<int16_t>(sums.high));
      std::byte* starts = tile + (156 + 12 * g) * tokens + 4 * token;
      put(starts, -8 * sums.low);
      put(starts + 4 * tokens, -8 * sums.high);
      put(starts + 8 * tokens, -8 * sum);
    }
    put(tile + 136 * tokens + 4 * token, rounding.d);
  }
}

}  // namespace

extern const RoundingKernels rounding_kernels;
constinit const RoundingKernels rounding_kernels = {{round_per_32, round_per_128}};

}  // namespace quern::QUERN_ISA
