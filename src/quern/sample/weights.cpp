// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <vector>

namespace quern {
namespace {

// The two sums are most of what a token costs here, and vectors of 8 or 16 floats make them two and four times as fast
// as the baseline's 4. Their loops are therefore compiled for three levels, and the machine's best is taken. Unlike the
// choice of kernels (src/quern/kernels) this one needs no way to force it: no operation is contracted and every lane is
// added where it stands, so all levels give the same bits. The level is a function's attribute and not a file's flag:
// no inline function of a header comes out compiled for it.
#define QUERN_SAME_CODE [[gnu::always_inline]] inline

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;
constexpr int kBlock = 128;  // weights that are added up in single precision: eight in each lane

// What the loops need. `least`, the exponent that stands for all below it, for NaN and for what does not count, is a
// variable because compilers make a branch of a constant one, and no vector.
struct Scale {
  double top, factor;
  double quick_least = -100, exact_least = -1000;
};

// 2^y, y <= 0: y = n + f, |f| <= 1/2; 2^f by a polynomial of degree 5, minimax for the relative error (7.5e-8), found
// by Remez exchange.
QUERN_SAME_CODE float quick_power(float y) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: adding it rounds to an integer
  const float t = y + kMagic, f = y - (t - kMagic);
  float p = 1.3276472e-3f;
  p = p * f + 9.6755413e-3f;
  p = p * f + 5.5507133e-2f;
  p = p * f + 2.4022120e-1f;
  p = p * f + 6.9314697e-1f;
  p = p * f + 1.0000001f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(t) << 23));
}

// The same with the first 13 terms of the series: the next is below 2e-16.
QUERN_SAME_CODE double exact_power(double y) {
  constexpr double kMagic = 6755399441055744;  // 1.5 * 2^52
  const double t = y + kMagic, f = y - (t - kMagic);
  double p = 2.5678435993488202e-11;
  p = p * f + 4.4455382718708116e-10;
  p = p * f + 7.0549116208011231e-9;
  p = p * f + 1.0178086009239699e-7;
  p = p * f + 1.3215486790144310e-6;
  p = p * f + 1.5252733804059841e-5;
  p = p * f + 1.5403530393381608e-4;
  p = p * f + 1.3333558146428443e-3;
  p = p * f + 9.6181291076284772e-3;
  p = p * f + 5.5504108664821580e-2;
  p = p * f + 2.4022650695910071e-1;
  p = p * f + 6.9314718055994531e-1;
  p = p * f + 1;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(t) << 52));
}

template <typename T>
QUERN_SAME_CODE double fold(T* sums) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}

template <typename T>
QUERN_SAME_CODE T exponent(float logit, T top, T factor, T least) {
  const T y = (logit - top) * factor, counted = logit < top ? y : least;
  return counted > least ? counted : least;
}

QUERN_SAME_CODE double quick_blocks(const float* logits, size_t n, const Scale& scale) {
  const auto top = static_cast<float>(scale.top), factor = static_cast<float>(scale.factor),
             least = static_cast<float>(scale.quick_least);
  double sum = 0;
  for (const float* end = logits + n; logits < end; logits += kBlock) {
    float sums[kLanes] = {};
    for (int row = 0; row < kBlock; row += kLanes)
      for (int lane = 0; lane < kLanes; ++lane)
        sums[lane] += quick_power(exponent(logits[row + lane], top, factor, least));
    sum += fold(sums);
  }
  return sum;
}

QUERN_SAME_CODE double exact_blocks(const float* logits, size_t n, const Scale& scale) {
  const double top = scale.top, factor = scale.factor, least = scale.exact_least;
  double sum = 0;
  for (const float* end = logits + n; logits < end; logits += kBlock) {
    double sums[kLanes] = {};
    for (int row = 0; row < kBlock; row += kLanes)
      for (int lane = 0; lane < kLanes; ++lane)
        sums[lane] += exact_power(exponent(logits[row + lane], top, factor, least));
    sum += fold(sums);
  }
  return sum;
}

// n: a multiple of 128.
using Blocks = double (*)(const float* logits, size_t n, const Scale& scale);

template <Blocks blocks>
double weights(std::span<const float> logits, float top, double t) {
  const Scale scale{top, std::numbers::log2e / t};
  const size_t whole = logits.size() / kBlock * kBlock;
  double sum = blocks(logits.data(), whole, scale);
  if (whole < logits.size()) {
    float rest[kBlock];
    std::fill(std::copy(logits.begin() + static_cast<ptrdiff_t>(whole), logits.end(), rest), rest + kBlock, kNone);
    sum += blocks(rest, kBlock, scale);
  }
  return sum;
}

#define QUERN_LEVEL(level, ...)                                                                                        \
  __VA_ARGS__ double quick_##level(const float* p, size_t n, const Scale& scale) { return quick_blocks(p, n, scale); } \
  __VA_ARGS__ double exact_##level(const float* p, size_t n, const Scale& scale) { return exact_blocks(p, n, scale); } \
  constexpr WeightSums sums_##level = {#level, weights<quick_##level>, weights<exact_##level>};

QUERN_LEVEL(baseline)
#if defined(__x86_64__)
QUERN_LEVEL(avx2, [[gnu::target("avx2")]])
#if defined(__clang__)
QUERN_LEVEL(avx512, [[gnu::target("avx512f,avx512dq,avx512vl"), clang::min_vector_width(512)]])
#else
QUERN_LEVEL(avx512, [[gnu::target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")]])
#endif
#endif

std::vector<WeightSums> usable_sums() {
  std::vector<WeightSums> usable = {sums_baseline};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) usable.push_back(sums_avx2);
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) usable.push_back(sums_avx512);
#endif
  return usable;
}

using Four = float __attribute__((vector_size(16)));
constexpr Four kNoneOfFour = {kNone, kNone, kNone, kNone};
static_assert(sizeof(Four) == kLogitColumns * sizeof(float));

void keep_larger(Four& most, const float* logits) {
  Four values;
  std::memcpy(&values, logits, sizeof values);
  most = values > most ? values : most;  // false for NaN
}

void group_maxima(const float* logits, float* maxima) {
  Four most = kNoneOfFour;
#pragma GCC unroll 16
  for (size_t row = 0; row < kLogitRows; ++row) keep_larger(most, logits + row * kLogitColumns);
  std::memcpy(maxima, &most, sizeof most);
}

}  // namespace

void column_maxima(std::span<const float> logits, std::span<float> maxima) {
  float* out = maxima.data();
  for (; logits.size() >= kLogitGroup; logits = logits.subspan(kLogitGroup), out += kLogitColumns)
    group_maxima(logits.data(), out);
  if (logits.empty()) return;
  float rest[kLogitGroup];
  std::fill(std::copy(logits.begin(), logits.end(), rest), rest + kLogitGroup, kNone);
  group_maxima(rest, out);
}

float largest(std::span<const float> logits) {
  constexpr size_t kStep = 16;
  Four parts[] = {kNoneOfFour, kNoneOfFour, kNoneOfFour, kNoneOfFour};
  const size_t whole = logits.size() / kStep * kStep;
  for (size_t i = 0; i < whole; i += kStep) {
#pragma GCC unroll 4
    for (size_t part = 0; part < 4; ++part) keep_larger(parts[part], &logits[i + 4 * part]);
  }
  float most = kNone;
  for (const Four& part : parts)
    for (int i = 0; i < 4; ++i) most = std::max(most, part[i]);
  for (const float logit : logits.subspan(whole)) most = logit > most ? logit : most;
  return most;
}

std::span<const WeightSums> weight_sums() {
  static const std::vector<WeightSums> usable = usable_sums();
  return usable;
}

// With e = 2^-24, the rounding of one operation: the exponent d = (logit - top) / t carries three of them (difference,
// factor, product), so its weight w is off by 3 e |d| w; the polynomial and its rounding (4 e), and eleven additions in
// single precision, make less than 16 e w. Of n weights that add up to s, the sum of |d| w = -w ln w is largest where
// all are equal (it is concave): s ln(n / s).
double quick_weights_error(double sum, size_t n) {
  return 0x1p-24 * (3.1 * std::log(static_cast<double>(n) / sum) + 16);
}

}  // namespace quern
