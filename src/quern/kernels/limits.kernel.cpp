// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/limits.h"

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

namespace quern::QUERN_ISA {
namespace {

// Enough independent chains to hide the latency of every instruction used (4 to 10 cycles at two a cycle).
constexpr int kChains = 12;

// `opaque` costs nothing and tells the compiler that the register may have changed, so that equal chains are not
// merged, constant products are not taken out of the loop and sums stay in registers.
#if defined(QUERN_ISA_avx512)

using Register = __m512i;
constexpr int kOperations = 128;
inline Register zero() { return _mm512_setzero_si512(); }
inline Register bytes_of(int8_t value) { return _mm512_set1_epi8(value); }
inline Register load(const std::byte* p) { return _mm512_load_si512(p); }
inline Register either(Register a, Register b) { return _mm512_or_si512(a, b); }
inline Register dot(Register sum, Register a, Register b) { return _mm512_dpbusd_epi32(sum, a, b); }
inline void opaque(Register& r) { asm volatile("" : "+v"(r)); }

#elif defined(QUERN_ISA_avx2)

using Register = __m256i;
constexpr int kOperations = 64;
inline Register zero() { return _mm256_setzero_si256(); }
inline Register bytes_of(int8_t value) { return _mm256_set1_epi8(value); }
inline Register load(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
inline Register either(Register a, Register b) { return _mm256_or_si256(a, b); }
inline Register dot(Register sum, Register a, Register b) {
#if defined(QUERN_ISA_avx_vnni)
  return _mm256_dpbusd_avx_epi32(sum, a, b);
#else
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
#endif
}
inline void opaque(Register& r) { asm volatile("" : "+x"(r)); }

#elif defined(__x86_64__)

using Register = __m128i;
constexpr int kOperations = 32;
inline Register zero() { return _mm_setzero_si128(); }
inline Register bytes_of(int8_t value) { return _mm_set1_epi8(value); }
inline Register load(const std::byte* p) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p)); }
inline Register either(Register a, Register b) { return _mm_or_si128(a, b); }
inline Register dot(Register sum, Register a, Register b) {
  return _mm_add_epi32(sum, _mm_madd_epi16(_mm_maddubs_epi16(a, b), _mm_set1_epi16(1)));
}
inline void opaque(Register& r) { asm volatile("" : "+x"(r)); }

#else

using Register = int8x16_t;
constexpr int kOperations = 32;
inline Register zero() { return vdupq_n_s8(0); }
inline Register bytes_of(int8_t value) { return vdupq_n_s8(value); }
inline Register load(const std::byte* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }
inline Register either(Register a, Register b) { return vorrq_s8(a, b); }
inline Register dot(Register sum, Register a, Register b) {
  return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), a, b));
}
inline void opaque(Register& r) { asm volatile("" : "+w"(r)); }

#endif

uint64_t read(const std::byte* data, int64_t bytes) {
  constexpr int kStreams = 8;
  Register seen[kStreams];
#pragma GCC unroll 8
  for (int i = 0; i < kStreams; ++i) seen[i] = zero();
  for (int64_t at = 0; at < bytes; at += kStreams * static_cast<int64_t>(sizeof(Register))) {
#pragma GCC unroll 8
    for (int i = 0; i < kStreams; ++i)
      seen[i] = either(seen[i], load(data + at + i * static_cast<int64_t>(sizeof(Register))));
  }
  alignas(64) uint64_t words[sizeof(Register) / 8];
  for (int i = 1; i < kStreams; ++i) seen[0] = either(seen[0], seen[i]);
  __builtin_memcpy(words, &seen[0], sizeof(Register));
  uint64_t out = 0;
  for (uint64_t word : words) out |= word;
  return out;
}

Int8Dots int8_dots(int64_t rounds) {
  Register a = bytes_of(3), b = bytes_of(-2), sums[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = zero();
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      opaque(a);
      sums[i] = dot(sums[i], a, b);
      opaque(sums[i]);
    }
  }
  constexpr int kLanes = sizeof(Register) / 4;
  uint32_t lanes[kChains * kLanes];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) __builtin_memcpy(lanes + i * kLanes, &sums[i], sizeof(Register));
  uint32_t sum = 0;
  for (uint32_t lane : lanes) sum += lane;
  return {rounds * kChains * kOperations, sum};
}

}  // namespace

extern const LimitKernels limit_kernels;
const LimitKernels limit_kernels = {read, int8_dots};

}  // namespace quern::QUERN_ISA
