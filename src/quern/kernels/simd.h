// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sixteen floats at a time, on every level, for *.kernel.cpp files only: one zmm, two ymm, four xmm or four NEON
// registers. Lanes keep their order and sums their tree, so an algorithm written here is the same on all levels; only
// the rounding of `fma` differs (the lowest x86 level has no fused one). Everything is inline in an unnamed namespace:
// an object file of one level must not hand a function to another.

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#if defined(QUERN_ISA_avx512) && !defined(__clang__)
// GCC 12 warns of its own _mm512_undefined_ps (its bug 105593). The other levels of the same code keep the warning.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace quern::QUERN_ISA {
namespace {

#define QUERN_INLINE [[gnu::always_inline]] inline

// ---- One register: the only part that is written per level.

#if defined(QUERN_ISA_avx512)

using Reg = __m512;
constexpr int kRegLanes = 16;
QUERN_INLINE Reg reg_load(const float* p) { return _mm512_loadu_ps(p); }
QUERN_INLINE void reg_store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
QUERN_INLINE Reg reg_set(float a) { return _mm512_set1_ps(a); }
QUERN_INLINE Reg reg_add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
QUERN_INLINE Reg reg_sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
QUERN_INLINE Reg reg_mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
QUERN_INLINE Reg reg_div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
QUERN_INLINE Reg reg_max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
QUERN_INLINE Reg reg_min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
QUERN_INLINE Reg reg_fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
QUERN_INLINE Reg reg_abs(Reg a) { return _mm512_abs_ps(a); }
/// a where first <= index < last, elsewhere `other`.
QUERN_INLINE Reg reg_within(Reg index, Reg first, Reg last, Reg a, Reg other) {
  const __mmask16 in = _mm512_cmp_ps_mask(index, first, _CMP_GE_OQ) & _mm512_cmp_ps_mask(index, last, _CMP_LT_OQ);
  return _mm512_mask_blend_ps(in, other, a);
}
/// 2^n where t = n + 1.5 * 2^23; n in [-127, 127], -127 gives 0.
QUERN_INLINE Reg reg_power_of_two(Reg t) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127)), 23));
}
QUERN_INLINE Reg reg_load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
QUERN_INLINE Reg reg_load_int8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
/// Two bfloat16 per lane: the lower and the upper one as floats.
QUERN_INLINE Reg reg_low_half(Reg a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 16)); }
QUERN_INLINE Reg reg_high_half(Reg a) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(-65536)));
}
/// As `to_bf16`, in the upper half of each lane; the lower is zero.
QUERN_INLINE Reg reg_round_bf16(Reg a) {
  const __m512i bits = _mm512_castps_si512(a), one = _mm512_set1_epi32(1);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
  __m512i out = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  out = _mm512_mask_or_epi32(out, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
  return reg_high_half(_mm512_castsi512_ps(out));
}
/// Upper halves of a and b as the lower and the upper half.
QUERN_INLINE Reg reg_pair_halves(Reg a, Reg b) {
  const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(a), 16);
  return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_castps_si512(reg_high_half(b))));
}
/// a = even lanes of (a, b), b = odd ones; and back.
QUERN_INLINE void reg_split_pairs(Reg& a, Reg& b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const Reg first = _mm512_permutex2var_ps(a, even, b);
  b = _mm512_permutex2var_ps(a, _mm512_or_si512(even, _mm512_set1_epi32(1)), b);
  a = first;
}
QUERN_INLINE void reg_join_pairs(Reg& a, Reg& b) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const Reg first = _mm512_permutex2var_ps(a, low, b);
  b = _mm512_permutex2var_ps(a, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b);
  a = first;
}

#elif defined(QUERN_ISA_avx2)

using Reg = __m256;
constexpr int kRegLanes = 8;
QUERN_INLINE Reg reg_load(const float* p) { return _mm256_loadu_ps(p); }
QUERN_INLINE void reg_store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
QUERN_INLINE Reg reg_set(float a) { return _mm256_set1_ps(a); }
QUERN_INLINE Reg reg_add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
QUERN_INLINE Reg reg_sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
QUERN_INLINE Reg reg_mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
QUERN_INLINE Reg reg_div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
QUERN_INLINE Reg reg_max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
QUERN_INLINE Reg reg_min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
QUERN_INLINE Reg reg_fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
QUERN_INLINE Reg reg_abs(Reg a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
QUERN_INLINE Reg reg_within(Reg index, Reg first, Reg last, Reg a, Reg other) {
  const Reg in = _mm256_and_ps(_mm256_cmp_ps(index, first, _CMP_GE_OQ), _mm256_cmp_ps(index, last, _CMP_LT_OQ));
  return _mm256_blendv_ps(other, a, in);
}
QUERN_INLINE Reg reg_power_of_two(Reg t) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127)), 23));
}
QUERN_INLINE Reg reg_load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
QUERN_INLINE Reg reg_load_int8(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
QUERN_INLINE Reg reg_low_half(Reg a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)); }
QUERN_INLINE Reg reg_high_half(Reg a) { return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-65536))); }
QUERN_INLINE Reg reg_round_bf16(Reg a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const Reg quiet = _mm256_or_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x400000)));
  return reg_high_half(_mm256_blendv_ps(_mm256_castsi256_ps(near), quiet, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
QUERN_INLINE Reg reg_pair_halves(Reg a, Reg b) {
  return _mm256_or_ps(_mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(a), 16)), reg_high_half(b));
}
QUERN_INLINE void reg_split_pairs(Reg& a, Reg& b) {
  const __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
  a = _mm256_shuffle_ps(low, high, 0x88);
  b = _mm256_shuffle_ps(low, high, 0xdd);
}
QUERN_INLINE void reg_join_pairs(Reg& a, Reg& b) {
  const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
  a = _mm256_permute2f128_ps(low, high, 0x20);
  b = _mm256_permute2f128_ps(low, high, 0x31);
}

#elif defined(QUERN_ISA_x86_64_v2)

using Reg = __m128;
constexpr int kRegLanes = 4;
QUERN_INLINE Reg reg_load(const float* p) { return _mm_loadu_ps(p); }
QUERN_INLINE void reg_store(float* p, Reg a) { _mm_storeu_ps(p, a); }
QUERN_INLINE Reg reg_set(float a) { return _mm_set1_ps(a); }
QUERN_INLINE Reg reg_add(Reg a, Reg b) { return _mm_add_ps(a, b); }
QUERN_INLINE Reg reg_sub(Reg a, Reg b) { return _mm_sub_ps(a, b); }
QUERN_INLINE Reg reg_mul(Reg a, Reg b) { return _mm_mul_ps(a, b); }
QUERN_INLINE Reg reg_div(Reg a, Reg b) { return _mm_div_ps(a, b); }
QUERN_INLINE Reg reg_max(Reg a, Reg b) { return _mm_max_ps(a, b); }
QUERN_INLINE Reg reg_min(Reg a, Reg b) { return _mm_min_ps(a, b); }
QUERN_INLINE Reg reg_fma(Reg a, Reg b, Reg c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
QUERN_INLINE Reg reg_abs(Reg a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }
QUERN_INLINE Reg reg_within(Reg index, Reg first, Reg last, Reg a, Reg other) {
  return _mm_blendv_ps(other, a, _mm_and_ps(_mm_cmpge_ps(index, first), _mm_cmplt_ps(index, last)));
}
QUERN_INLINE Reg reg_power_of_two(Reg t) {
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(_mm_castps_si128(t), _mm_set1_epi32(127)), 23));
}
QUERN_INLINE Reg reg_load_bf16(const uint16_t* p) {
  return _mm_castsi128_ps(
      _mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
QUERN_INLINE Reg reg_load_int8(const int8_t* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(bits)));
}
QUERN_INLINE Reg reg_low_half(Reg a) { return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(a), 16)); }
QUERN_INLINE Reg reg_high_half(Reg a) { return _mm_and_ps(a, _mm_castsi128_ps(_mm_set1_epi32(-65536))); }
QUERN_INLINE Reg reg_round_bf16(Reg a) {
  const __m128i bits = _mm_castps_si128(a);
  const __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
  const __m128i near = _mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x7fff)), odd);
  const Reg quiet = _mm_or_ps(a, _mm_castsi128_ps(_mm_set1_epi32(0x400000)));
  return reg_high_half(_mm_blendv_ps(_mm_castsi128_ps(near), quiet, _mm_cmpunord_ps(a, a)));
}
QUERN_INLINE Reg reg_pair_halves(Reg a, Reg b) {
  return _mm_or_ps(_mm_castsi128_ps(_mm_srli_epi32(_mm_castps_si128(a), 16)), reg_high_half(b));
}
QUERN_INLINE void reg_split_pairs(Reg& a, Reg& b) {
  const Reg first = _mm_shuffle_ps(a, b, 0x88);
  b = _mm_shuffle_ps(a, b, 0xdd);
  a = first;
}
QUERN_INLINE void reg_join_pairs(Reg& a, Reg& b) {
  const Reg first = _mm_unpacklo_ps(a, b);
  b = _mm_unpackhi_ps(a, b);
  a = first;
}

#else  // NEON

using Reg = float32x4_t;
constexpr int kRegLanes = 4;
QUERN_INLINE Reg reg_load(const float* p) { return vld1q_f32(p); }
QUERN_INLINE void reg_store(float* p, Reg a) { vst1q_f32(p, a); }
QUERN_INLINE Reg reg_set(float a) { return vdupq_n_f32(a); }
QUERN_INLINE Reg reg_add(Reg a, Reg b) { return vaddq_f32(a, b); }
QUERN_INLINE Reg reg_sub(Reg a, Reg b) { return vsubq_f32(a, b); }
QUERN_INLINE Reg reg_mul(Reg a, Reg b) { return vmulq_f32(a, b); }
QUERN_INLINE Reg reg_div(Reg a, Reg b) { return vdivq_f32(a, b); }
QUERN_INLINE Reg reg_max(Reg a, Reg b) { return vmaxq_f32(a, b); }
QUERN_INLINE Reg reg_min(Reg a, Reg b) { return vminq_f32(a, b); }
QUERN_INLINE Reg reg_fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
QUERN_INLINE Reg reg_abs(Reg a) { return vabsq_f32(a); }
QUERN_INLINE Reg reg_within(Reg index, Reg first, Reg last, Reg a, Reg other) {
  return vbslq_f32(vandq_u32(vcgeq_f32(index, first), vcltq_f32(index, last)), a, other);
}
QUERN_INLINE Reg reg_power_of_two(Reg t) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(127)), 23));
}
QUERN_INLINE Reg reg_load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
QUERN_INLINE Reg reg_load_int8(const int8_t* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(bits));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}
QUERN_INLINE Reg reg_low_half(Reg a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 16)); }
QUERN_INLINE Reg reg_high_half(Reg a) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0xffff0000u)));
}
QUERN_INLINE Reg reg_round_bf16(Reg a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t near = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return reg_high_half(vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(a, a), near, quiet)));
}
QUERN_INLINE Reg reg_pair_halves(Reg a, Reg b) {
  const uint32x4_t low = vshrq_n_u32(vreinterpretq_u32_f32(a), 16);
  return vreinterpretq_f32_u32(vorrq_u32(low, vreinterpretq_u32_f32(reg_high_half(b))));
}
QUERN_INLINE void reg_split_pairs(Reg& a, Reg& b) {
  const Reg first = vuzp1q_f32(a, b);
  b = vuzp2q_f32(a, b);
  a = first;
}
QUERN_INLINE void reg_join_pairs(Reg& a, Reg& b) {
  const Reg first = vzip1q_f32(a, b);
  b = vzip2q_f32(a, b);
  a = first;
}

#endif

// ---- Sixteen lanes.

constexpr int kLanes = 16;
constexpr int kParts = kLanes / kRegLanes;

struct F32x16 {
  Reg part[kParts];
};

// One loop over the parts; unrolled here and everywhere so that no array of registers goes to the stack.
#define QUERN_PARTS(expression)                                                        \
  F32x16 out;                                                                          \
  _Pragma("GCC unroll 4") for (int i = 0; i < kParts; ++i) out.part[i] = (expression); \
  return out

QUERN_INLINE F32x16 load(const float* p) { QUERN_PARTS(reg_load(p + i * kRegLanes)); }
QUERN_INLINE F32x16 load(const uint16_t* p) { QUERN_PARTS(reg_load_bf16(p + i * kRegLanes)); }  ///< bfloat16
QUERN_INLINE F32x16 load(const int8_t* p) { QUERN_PARTS(reg_load_int8(p + i * kRegLanes)); }
QUERN_INLINE F32x16 broadcast(float a) { QUERN_PARTS(reg_set(a)); }
QUERN_INLINE F32x16 operator+(F32x16 a, F32x16 b) { QUERN_PARTS(reg_add(a.part[i], b.part[i])); }
QUERN_INLINE F32x16 operator-(F32x16 a, F32x16 b) { QUERN_PARTS(reg_sub(a.part[i], b.part[i])); }
QUERN_INLINE F32x16 operator*(F32x16 a, F32x16 b) { QUERN_PARTS(reg_mul(a.part[i], b.part[i])); }
QUERN_INLINE F32x16 operator/(F32x16 a, F32x16 b) { QUERN_PARTS(reg_div(a.part[i], b.part[i])); }
/// x86 gives b where a or b is NaN: put the value that may be NaN second.
QUERN_INLINE F32x16 max(F32x16 a, F32x16 b) { QUERN_PARTS(reg_max(a.part[i], b.part[i])); }
QUERN_INLINE F32x16 min(F32x16 a, F32x16 b) { QUERN_PARTS(reg_min(a.part[i], b.part[i])); }
QUERN_INLINE F32x16 abs(F32x16 a) { QUERN_PARTS(reg_abs(a.part[i])); }
/// a b + c, rounded once where the level has a fused operation.
QUERN_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { QUERN_PARTS(reg_fma(a.part[i], b.part[i], c.part[i])); }
/// Lanes first <= i < last of a, elsewhere `other`; counted from the first of these vectors, of which this is vector
/// `number`.
QUERN_INLINE F32x16 within(int number, int first, int last, F32x16 a, float other) {
  alignas(64) static constexpr float kIndex[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Reg from = reg_set(static_cast<float>(first - number * kLanes));
  const Reg to = reg_set(static_cast<float>(last - number * kLanes));
  QUERN_PARTS(reg_within(reg_load(kIndex + i * kRegLanes), from, to, a.part[i], reg_set(other)));
}
QUERN_INLINE F32x16 power_of_two(F32x16 t) { QUERN_PARTS(reg_power_of_two(t.part[i])); }
QUERN_INLINE F32x16 low_half(F32x16 a) { QUERN_PARTS(reg_low_half(a.part[i])); }
QUERN_INLINE F32x16 high_half(F32x16 a) { QUERN_PARTS(reg_high_half(a.part[i])); }
QUERN_INLINE F32x16 round_bf16(F32x16 a) { QUERN_PARTS(reg_round_bf16(a.part[i])); }
QUERN_INLINE F32x16 pair_halves(F32x16 a, F32x16 b) { QUERN_PARTS(reg_pair_halves(a.part[i], b.part[i])); }
#undef QUERN_PARTS

QUERN_INLINE void store(float* p, F32x16 a) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) reg_store(p + i * kRegLanes, a.part[i]);
}

// The first n lanes, 0 < n <= 16; the others are zero, and memory behind is not touched.
template <typename T>
QUERN_INLINE F32x16 load(const T* p, int64_t n) {
  if (n >= kLanes) return load(p);
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

QUERN_INLINE void store(float* p, F32x16 a, int64_t n) {
  if (n >= kLanes) return store(p, a);
  float lanes[kLanes];
  store(lanes, a);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

/// Sixteen pairs that lie one after the other in memory: a gets the firsts, b the seconds.
QUERN_INLINE void load_pairs(const float* p, F32x16& a, F32x16& b) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    a.part[i] = reg_load(p + 2 * i * kRegLanes);
    b.part[i] = reg_load(p + (2 * i + 1) * kRegLanes);
    reg_split_pairs(a.part[i], b.part[i]);
  }
}
QUERN_INLINE void store_pairs(float* p, F32x16 a, F32x16 b) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    reg_join_pairs(a.part[i], b.part[i]);
    reg_store(p + 2 * i * kRegLanes, a.part[i]);
    reg_store(p + (2 * i + 1) * kRegLanes, b.part[i]);
  }
}

// Folds 16 lanes to 8, 4, 2, 1, always lane i with lane i + half.
#if defined(__x86_64__)
struct Add {
  QUERN_INLINE static __m128 of(__m128 a, __m128 b) { return _mm_add_ps(a, b); }
#if defined(QUERN_ISA_avx2) || defined(QUERN_ISA_avx512)
  QUERN_INLINE static __m256 of(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
#endif
};
struct Greater {
  QUERN_INLINE static __m128 of(__m128 a, __m128 b) { return _mm_max_ps(a, b); }
#if defined(QUERN_ISA_avx2) || defined(QUERN_ISA_avx512)
  QUERN_INLINE static __m256 of(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
#endif
};
template <typename Fold>
QUERN_INLINE float fold(F32x16 a) {
#if defined(QUERN_ISA_avx512)
  const __m256 eight = Fold::of(_mm512_castps512_ps256(a.part[0]), _mm512_extractf32x8_ps(a.part[0], 1));
  const __m128 four = Fold::of(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#elif defined(QUERN_ISA_avx2)
  const __m256 eight = Fold::of(a.part[0], a.part[1]);
  const __m128 four = Fold::of(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#else
  const __m128 four = Fold::of(Fold::of(a.part[0], a.part[2]), Fold::of(a.part[1], a.part[3]));
#endif
  const __m128 two = Fold::of(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(Fold::of(two, _mm_shuffle_ps(two, two, 1)));
}
QUERN_INLINE float sum(F32x16 a) { return fold<Add>(a); }
QUERN_INLINE float max(F32x16 a) { return fold<Greater>(a); }
#else
template <typename Fold>
QUERN_INLINE float fold(F32x16 a, Fold f) {
  float lanes[kLanes];
  store(lanes, a);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) lanes[i] = f(lanes[i], lanes[i + 8]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) lanes[i] = f(lanes[i], lanes[i + 4]);
  return f(f(lanes[0], lanes[2]), f(lanes[1], lanes[3]));
}
QUERN_INLINE float sum(F32x16 a) {
  return fold(a, [](float x, float y) { return x + y; });
}
QUERN_INLINE float max(F32x16 a) {
  return fold(a, [](float x, float y) { return x > y ? x : y; });
}
#endif

/// Nearest bfloat16, ties to even; NaN stays NaN.
QUERN_INLINE uint16_t to_bf16(float a) {
  uint32_t bits;
  __builtin_memcpy(&bits, &a, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// e^x. Relative error below 1e-7 (measured 8.3e-8 on all x86 levels) in [-87.3, 88]; exactly 0 below -87.7, e^88 above
/// 88, NaN for NaN. x = n ln 2 + r, |r| <= ln 2 / 2; e^r - 1 - r = r² P(r) with P of degree 5, minimax for the relative
/// error (5e-11 before rounding), found by Remez exchange.
QUERN_INLINE F32x16 exp(F32x16 x) {
  const F32x16 magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  x = max(broadcast(-88.0f), min(broadcast(88.0f), x));
  const F32x16 t = fma(x, broadcast(1.44269504f), magic);
  const F32x16 n = t - magic;
  F32x16 r = fma(n, broadcast(-0.693359375f), x);  // exact: 355 / 512 leaves room for n
  r = fma(n, broadcast(2.12194440e-4f), r);
  F32x16 p = broadcast(1.97902981e-4f);
  p = fma(p, r, broadcast(1.39447036e-3f));
  p = fma(p, r, broadcast(8.33349734e-3f));
  p = fma(p, r, broadcast(4.16662944e-2f));
  p = fma(p, r, broadcast(0.166666659f));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r * r, r) + broadcast(1.0f);
  return p * power_of_two(t);
}

/// 2^x for x <= 0. Relative error of 2^f below 1e-7 with fused operations (8.3e-8 in two million f); exactly 0 below
/// -126.5, NaN for NaN. x = n + f, |f| <= 1/2; 2^f = 1 + f P(f) with P of degree 5, minimax for the relative error
/// (2.6e-9 before rounding), found by Remez exchange.
QUERN_INLINE F32x16 exp2_below_zero(F32x16 x) {
  const F32x16 magic = broadcast(12582912.0f);  // see `exp`
  x = max(broadcast(-127.0f), x);
  const F32x16 t = x + magic;
  const F32x16 f = x - (t - magic);
  F32x16 p = broadcast(1.55946778e-4f);
  p = fma(p, f, broadcast(1.34066434e-3f));
  p = fma(p, f, broadcast(9.61769279e-3f));
  p = fma(p, f, broadcast(5.55031039e-2f));
  p = fma(p, f, broadcast(0.240226522f));
  p = fma(p, f, broadcast(0.693147242f));
  p = fma(p, f, broadcast(1.0f));
  return p * power_of_two(t);
}

/// 1 / (1 + e^-x)
QUERN_INLINE F32x16 sigmoid(F32x16 x) {
  const F32x16 one = broadcast(1.0f);
  return one / (one + exp(broadcast(0.0f) - x));
}

}  // namespace
}  // namespace quern::QUERN_ISA
