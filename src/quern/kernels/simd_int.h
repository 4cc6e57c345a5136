// SPDX-License-Identifier: Apache-2.0
#pragma once

// Products of unsigned or signed codes with int8 inputs, four columns to a 32-bit lane, for matmul_tile.h; one
// register at a time, beside the float registers of simd.h. Every sum of integers here is exact.

#include "quern/kernels/matmul.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

/// Bytes of codes or of int8 inputs in one register.
constexpr int kRegBytes = kRegLanes * 4;

QUERN_INLINE int32_t word_at(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}

#if defined(QUERN_ISA_avx512)

using IntReg = __m512i;
QUERN_INLINE IntReg int_zero() { return _mm512_setzero_si512(); }
QUERN_INLINE IntReg int_words(int32_t word) { return _mm512_set1_epi32(word); }
QUERN_INLINE IntReg int_load(const std::byte* p) { return _mm512_loadu_si512(p); }
QUERN_INLINE IntReg int_load_int8(const std::byte* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
QUERN_INLINE IntReg int_table(const uint8_t* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
QUERN_INLINE IntReg int_and(IntReg a, IntReg b) { return _mm512_and_si512(a, b); }
QUERN_INLINE IntReg int_or(IntReg a, IntReg b) { return _mm512_or_si512(a, b); }
/// (a & mask) | b
QUERN_INLINE IntReg int_and_or(IntReg a, IntReg mask, IntReg b) { return _mm512_ternarylogic_epi32(a, mask, b, 0xea); }
QUERN_INLINE IntReg int_add(IntReg a, IntReg b) { return _mm512_add_epi32(a, b); }
QUERN_INLINE IntReg int_sub(IntReg a, IntReg b) { return _mm512_sub_epi32(a, b); }
/// Shifts of 32-bit lanes; n is a constant after inlining, but for `int_right_by`.
QUERN_INLINE IntReg int_left(IntReg v, int n) { return _mm512_slli_epi32(v, n); }
QUERN_INLINE IntReg int_right(IntReg v, int n) { return _mm512_srli_epi32(v, n); }
QUERN_INLINE IntReg int_right_by(IntReg v, int n) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n)); }
QUERN_INLINE IntReg int_quarter(IntReg v) { return _mm512_srai_epi32(v, 2); }  // with their sign
QUERN_INLINE IntReg look_up(IntReg table, IntReg nibbles) { return _mm512_shuffle_epi8(table, nibbles); }
QUERN_INLINE Reg to_floats(IntReg v) { return _mm512_cvtepi32_ps(v); }
QUERN_INLINE Reg as_floats(IntReg v) { return _mm512_castsi512_ps(v); }
QUERN_INLINE IntReg as_integers(Reg v) { return _mm512_castps_si512(v); }
/// sum + a.low * b.low + a.high * b.high of 16-bit halves, lane by lane.
QUERN_INLINE IntReg add_pair_products(IntReg sum, IntReg a, IntReg b) { return _mm512_dpwssd_epi32(sum, a, b); }
QUERN_INLINE Reg reg_load_half(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
QUERN_INLINE IntReg add_dot(IntReg sum, IntReg codes, IntReg inputs) { return _mm512_dpbusd_epi32(sum, codes, inputs); }

#elif defined(__x86_64__)

#if defined(QUERN_ISA_avx2)
using IntReg = __m256i;
QUERN_INLINE IntReg int_zero() { return _mm256_setzero_si256(); }
QUERN_INLINE IntReg int_words(int32_t word) { return _mm256_set1_epi32(word); }
QUERN_INLINE IntReg int_load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
QUERN_INLINE IntReg int_load_int8(const std::byte* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
QUERN_INLINE IntReg int_table(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
QUERN_INLINE IntReg int_and(IntReg a, IntReg b) { return _mm256_and_si256(a, b); }
QUERN_INLINE IntReg int_or(IntReg a, IntReg b) { return _mm256_or_si256(a, b); }
QUERN_INLINE IntReg int_add(IntReg a, IntReg b) { return _mm256_add_epi32(a, b); }
QUERN_INLINE IntReg int_sub(IntReg a, IntReg b) { return _mm256_sub_epi32(a, b); }
QUERN_INLINE IntReg int_left(IntReg v, int n) { return _mm256_slli_epi32(v, n); }
QUERN_INLINE IntReg int_right(IntReg v, int n) { return _mm256_srli_epi32(v, n); }
QUERN_INLINE IntReg int_right_by(IntReg v, int n) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(n)); }
QUERN_INLINE IntReg int_quarter(IntReg v) { return _mm256_srai_epi32(v, 2); }
QUERN_INLINE IntReg look_up(IntReg table, IntReg nibbles) { return _mm256_shuffle_epi8(table, nibbles); }
QUERN_INLINE Reg to_floats(IntReg v) { return _mm256_cvtepi32_ps(v); }
QUERN_INLINE Reg as_floats(IntReg v) { return _mm256_castsi256_ps(v); }
QUERN_INLINE IntReg as_integers(Reg v) { return _mm256_castps_si256(v); }
QUERN_INLINE IntReg pair_products(IntReg a, IntReg b) { return _mm256_madd_epi16(a, b); }
QUERN_INLINE IntReg add_16(IntReg a, IntReg b) { return _mm256_add_epi16(a, b); }
QUERN_INLINE IntReg sub_8(IntReg a, IntReg b) { return _mm256_sub_epi8(a, b); }
QUERN_INLINE IntReg abs_bytes(IntReg v) { return _mm256_abs_epi8(v); }
QUERN_INLINE IntReg sign_bytes(IntReg v, IntReg signs) { return _mm256_sign_epi8(v, signs); }
QUERN_INLINE IntReg byte_products(IntReg a, IntReg b) { return _mm256_maddubs_epi16(a, b); }
QUERN_INLINE Reg reg_load_half(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
#else
using IntReg = __m128i;
QUERN_INLINE IntReg int_zero() { return _mm_setzero_si128(); }
QUERN_INLINE IntReg int_words(int32_t word) { return _mm_set1_epi32(word); }
QUERN_INLINE IntReg int_load(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
QUERN_INLINE IntReg int_load_int8(const std::byte* p) { return _mm_cvtepi8_epi32(_mm_cvtsi32_si128(word_at(p))); }
QUERN_INLINE IntReg int_table(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
QUERN_INLINE IntReg int_and(IntReg a, IntReg b) { return _mm_and_si128(a, b); }
QUERN_INLINE IntReg int_or(IntReg a, IntReg b) { return _mm_or_si128(a, b); }
QUERN_INLINE IntReg int_add(IntReg a, IntReg b) { return _mm_add_epi32(a, b); }
QUERN_INLINE IntReg int_sub(IntReg a, IntReg b) { return _mm_sub_epi32(a, b); }
QUERN_INLINE IntReg int_left(IntReg v, int n) { return _mm_slli_epi32(v, n); }
QUERN_INLINE IntReg int_right(IntReg v, int n) { return _mm_srli_epi32(v, n); }
QUERN_INLINE IntReg int_right_by(IntReg v, int n) { return _mm_srl_epi32(v, _mm_cvtsi32_si128(n)); }
QUERN_INLINE IntReg int_quarter(IntReg v) { return _mm_srai_epi32(v, 2); }
QUERN_INLINE IntReg look_up(IntReg table, IntReg nibbles) { return _mm_shuffle_epi8(table, nibbles); }
QUERN_INLINE Reg to_floats(IntReg v) { return _mm_cvtepi32_ps(v); }
QUERN_INLINE Reg as_floats(IntReg v) { return _mm_castsi128_ps(v); }
QUERN_INLINE IntReg pair_products(IntReg a, IntReg b) { return _mm_madd_epi16(a, b); }
QUERN_INLINE IntReg add_16(IntReg a, IntReg b) { return _mm_add_epi16(a, b); }
QUERN_INLINE IntReg sub_8(IntReg a, IntReg b) { return _mm_sub_epi8(a, b); }
QUERN_INLINE IntReg abs_bytes(IntReg v) { return _mm_abs_epi8(v); }
QUERN_INLINE IntReg sign_bytes(IntReg v, IntReg signs) { return _mm_sign_epi8(v, signs); }
QUERN_INLINE IntReg byte_products(IntReg a, IntReg b) { return _mm_maddubs_epi16(a, b); }
/// Exact: the exponent is moved by a product with 2^112, which also makes denormals normal; infinity and NaN keep
/// theirs.
QUERN_INLINE Reg reg_load_half(const std::byte* p) {
  const __m128i h = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i magnitude = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
  const __m128i sign = _mm_slli_epi32(_mm_xor_si128(h, magnitude), 16);
  const __m128 value = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)), _mm_set1_ps(0x1p112f));
  const __m128i special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(0x7f800000));
  return _mm_or_ps(value, _mm_castsi128_ps(_mm_or_si128(sign, special)));
}
#endif
QUERN_INLINE IntReg int_and_or(IntReg a, IntReg mask, IntReg b) { return int_or(int_and(a, mask), b); }
#if defined(QUERN_ISA_avx_vnni)
QUERN_INLINE IntReg add_pair_products(IntReg sum, IntReg a, IntReg b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
QUERN_INLINE IntReg add_dot(IntReg sum, IntReg codes, IntReg inputs) {
  return _mm256_dpbusd_avx_epi32(sum, codes, inputs);
}
#else
QUERN_INLINE IntReg add_pair_products(IntReg sum, IntReg a, IntReg b) { return int_add(sum, pair_products(a, b)); }

// Without VNNI pairs of products are added in 16 bits, which saturate: a pair is at most 2 * code * 127. So many steps
// fit below 2^15 before they must be widened:
constexpr int steps_in_16_bits(Codes c) {
  return c == Codes::nibbles ? 8 : c == Codes::table || c == Codes::five_bits ? 4 : c == Codes::six_bits ? 2 : 1;
}
static_assert(8 * 2 * 15 * 127 < 1 << 15 && 4 * 2 * 31 * 127 < 1 << 15 && 2 * 2 * 63 * 127 < 1 << 15);
// Wide codes are made signed; |code| <= 128 takes the unsigned side and the input gets the sign. Inputs are -127 ..
// 127.
static_assert(2 * 128 * 127 < 1 << 15);
constexpr bool kSignedWide = true;

struct CodeReg {
  IntReg magnitude, sign;
};
template <Codes C>
QUERN_INLINE CodeReg code_reg(IntReg codes) {
  if constexpr (C == Codes::bytes || C == Codes::wide_table) {
    const IntReg value = sub_8(codes, int_words(static_cast<int32_t>(0x80808080)));
    return {abs_bytes(value), value};
  }
  return {codes, codes};
}
/// Adds the products of a step in 16 bits, and what is full to `sum`, each half of a lane times that of `weights`.
template <Codes C>
struct Halves {
  IntReg part;
  QUERN_INLINE void add(int step, CodeReg codes, IntReg inputs, int steps, IntReg& sum, IntReg weights) {
    constexpr int kSteps = steps_in_16_bits(C);
    if constexpr (C == Codes::bytes || C == Codes::wide_table) inputs = sign_bytes(inputs, codes.sign);
    const IntReg products = byte_products(codes.magnitude, inputs);
    part = step % kSteps == 0 ? products : add_16(part, products);
    // GCC would turn the chains of sums into trees, whose parts do not fit in 16 registers.
    asm("" : "+x"(part));
    if (step % kSteps == kSteps - 1 || step == steps - 1) {
      sum = int_add(sum, pair_products(part, weights));
      asm("" : "+x"(sum));
    }
  }
};
template <Codes C>
struct Dot {
  IntReg sum;
  Halves<C> halves;
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int step, CodeReg codes, IntReg inputs, int steps) {
    halves.add(step, codes, inputs, steps, sum, int_words(0x10001));
  }
};
/// The scale is the weight of the widening: it costs nothing.
constexpr bool kScalesSteps = true;
template <Codes C>
struct ScaledDot {
  using Total = IntReg;
  Halves<C> halves;
  QUERN_INLINE static Total zero() { return int_zero(); }
  QUERN_INLINE static IntReg weight(IntReg scale, IntReg) { return scale; }
  QUERN_INLINE void begin(IntReg) {}
  QUERN_INLINE void add(int step, CodeReg codes, IntReg inputs, int steps, Total& total, IntReg pair) {
    halves.add(step, codes, inputs, steps, total, pair);
  }
  QUERN_INLINE void end(Total&, IntReg) {}
};
#endif

#else  // NEON with the dot product extension

using IntReg = int32x4_t;
QUERN_INLINE IntReg int_zero() { return vdupq_n_s32(0); }
QUERN_INLINE IntReg int_words(int32_t word) { return vdupq_n_s32(word); }
QUERN_INLINE IntReg int_load(const std::byte* p) {
  return vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)));
}
QUERN_INLINE IntReg int_load_int8(const std::byte* p) {
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word_at(p))))));
}
QUERN_INLINE IntReg int_table(const uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
QUERN_INLINE IntReg int_and(IntReg a, IntReg b) { return vandq_s32(a, b); }
QUERN_INLINE IntReg int_or(IntReg a, IntReg b) { return vorrq_s32(a, b); }
QUERN_INLINE IntReg int_and_or(IntReg a, IntReg mask, IntReg b) { return vorrq_s32(vandq_s32(a, mask), b); }
QUERN_INLINE IntReg int_add(IntReg a, IntReg b) { return vaddq_s32(a, b); }
QUERN_INLINE IntReg int_sub(IntReg a, IntReg b) { return vsubq_s32(a, b); }
QUERN_INLINE IntReg int_left(IntReg v, int n) { return vshlq_s32(v, vdupq_n_s32(n)); }
QUERN_INLINE IntReg int_right(IntReg v, int n) {
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-n)));
}
QUERN_INLINE IntReg int_right_by(IntReg v, int n) { return int_right(v, n); }
QUERN_INLINE IntReg int_quarter(IntReg v) { return vshrq_n_s32(v, 2); }
QUERN_INLINE IntReg look_up(IntReg table, IntReg nibbles) {
  return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(nibbles)));
}
QUERN_INLINE Reg to_floats(IntReg v) { return vcvtq_f32_s32(v); }
QUERN_INLINE Reg as_floats(IntReg v) { return vreinterpretq_f32_s32(v); }
QUERN_INLINE IntReg add_pair_products(IntReg sum, IntReg a, IntReg b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
QUERN_INLINE Reg reg_load_half(const std::byte* p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p))));
}

constexpr bool kSignedWide = true;
using CodeReg = int8x16_t;
template <Codes C>
QUERN_INLINE CodeReg code_reg(IntReg codes) {
  const uint8x16_t bytes = vreinterpretq_u8_s32(codes);
  constexpr bool kWide = C == Codes::bytes || C == Codes::wide_table;
  return vreinterpretq_s8_u8(kWide ? veorq_u8(bytes, vdupq_n_u8(128)) : bytes);
}
template <Codes>
struct Dot {
  IntReg sum;
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int, CodeReg codes, IntReg inputs, int) {
    sum = vdotq_s32(sum, codes, vreinterpretq_s8_s32(inputs));
  }
};
constexpr bool kScalesSteps = false;
template <Codes>
struct ScaledDot {
  using Total = IntReg;
  IntReg sum;
  QUERN_INLINE static Total zero() { return int_zero(); }
  QUERN_INLINE static IntReg weight(IntReg scale, IntReg) { return scale; }
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int, CodeReg codes, IntReg inputs, int, Total&, IntReg) {
    sum = vdotq_s32(sum, codes, vreinterpretq_s8_s32(inputs));
  }
  QUERN_INLINE void end(Total& total, IntReg weight) { total = vmlaq_s32(total, sum, weight); }
};

#endif

#if defined(QUERN_ISA_avx512) || defined(QUERN_ISA_avx_vnni)

// One instruction does it all, whatever the range of the codes.
constexpr bool kSignedWide = false;
using CodeReg = IntReg;
template <Codes>
QUERN_INLINE CodeReg code_reg(IntReg codes) {
  return codes;
}
/// The sum of products of codes and inputs, step by step from 0, plus what it began with.
template <Codes>
struct Dot {
  IntReg sum;
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int, CodeReg codes, IntReg inputs, int) { sum = add_dot(sum, codes, inputs); }
};
/// Whether the scale is applied step by step, so that what the sum begins with would be scaled in the wrong place.
constexpr bool kScalesSteps = false;
/// The same times an integer scale of each row, added to a total of 128 columns. In floats, because a conversion and a
/// fused product take less of what the dot products want than a product of integers; exact below 2^24, which is all
/// that Q5_K reaches.
struct FloatScaledDot {
  static_assert(8 * 63 * 31 * kMostMagnitude16 < 1 << 24);
  using Total = Reg;
  IntReg sum;
  QUERN_INLINE static Total zero() { return reg_set(0); }
  /// What `end` wants of scales, an int32 in each lane. `half`: the lower 16 bits of each.
  QUERN_INLINE static IntReg weight(IntReg scale, IntReg) { return as_integers(to_floats(scale)); }
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int, CodeReg codes, IntReg inputs, int, Total&, IntReg) { sum = add_dot(sum, codes, inputs); }
  QUERN_INLINE void end(Total& total, IntReg weight) { total = reg_fma(to_floats(sum), as_floats(weight), total); }
};
/// Where the sum fits 16 bits: the lower half of its lane, times the scale, is one instruction. What the upper half
/// holds, 0 or -1, meets 0.
struct PairScaledDot {
  using Total = IntReg;
  IntReg sum;
  QUERN_INLINE static Total zero() { return int_zero(); }
  QUERN_INLINE static IntReg weight(IntReg scale, IntReg half) { return int_and(scale, half); }
  QUERN_INLINE void begin(IntReg first) { sum = first; }
  QUERN_INLINE void add(int, CodeReg codes, IntReg inputs, int, Total&, IntReg) { sum = add_dot(sum, codes, inputs); }
  QUERN_INLINE void end(Total& total, IntReg weight) { total = add_pair_products(total, sum, weight); }
};
template <Codes>
struct ScaledDot : FloatScaledDot {};
template <>
struct ScaledDot<Codes::nibbles> : PairScaledDot {  // 32 columns, which begin at 0 or at -8 times their inputs
  static_assert(15 * 2 * kMostMagnitude16 < 1 << 15);
};
template <>
struct ScaledDot<Codes::six_bits> : PairScaledDot {  // 16 columns, always less their zero
  static_assert(32 * kMostMagnitude16 < 1 << 15);
};
QUERN_INLINE Reg to_floats(Reg total) { return total; }

#endif

}  // namespace
}  // namespace quern::QUERN_ISA
