// SPDX-License-Identifier: Apache-2.0
#pragma once

// Writing keys and values into pages, for attention.kernel.cpp only.

#include "quern/kernels/attention.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

template <typename T>
const float* token_scales(const T* part, int width) {
  return reinterpret_cast<const float*>(part + static_cast<int64_t>(width) * kAttentionBlock);
}

/// max|x| / 127, and its inverse. A row with NaN or an infinity has the scale NaN, so that it reads as NaN; one below
/// 2^-100, whose inverse may not be finite, is zeros. As `quantize` of the products does.
struct Scale {
  float value, inverse;
};
Scale row_scale(const float* x, int width) {
  F32x16 top = broadcast(0), spoiled = broadcast(0);  // a maximum would lose a NaN; NaN and infinity times zero stay
  for (int i = 0; i < width; i += kLanes) {
    const F32x16 part = load(x + i, width - i);
    top = max(top, abs(part));
    spoiled = spoiled + part * broadcast(0);
  }
  const float poison = sum(spoiled);
  if (poison != poison) return {__builtin_nanf(""), 0};
  const float highest = max(top);
  if (highest < 0x1p-100f) return {0, 0};
  return {highest / 127, 127 / highest};
}

// Columns of one row as they lie in a page, kLineColumns at a time; what is behind the row is zero.
constexpr int kLineColumns = 2 * kLanes;

/// bfloat16: a word holds two columns.
QUERN_INLINE void make_line(const float* x, int n, float, uint32_t* line) {
  alignas(64) float padded[kLineColumns] = {};
  if (n < kLineColumns) {
    for (int i = 0; i < n; ++i) padded[i] = x[i];
    x = padded;
  }
  F32x16 even, odd;
  load_pairs(x, even, odd);
  store(reinterpret_cast<float*>(line), pair_halves(round_bf16(even), round_bf16(odd)));
}
QUERN_INLINE void make_line(const float* x, int n, float inverse, int8_t* line) {
  for (int i = 0; i < kLineColumns && i < n; i += kLanes) {
    uint32_t words[kLanes];
    // To nearest even: the sum has no bits below 1, and its lowest byte is the integer's.
    const F32x16 rounded = load(x + i, n - i) * broadcast(inverse) + broadcast(12582912.0f);
    store(reinterpret_cast<float*>(words), inverse == 0 ? broadcast(12582912.0f) : rounded);
    for (int j = 0; j < kLanes; ++j) line[i + j] = static_cast<int8_t>(words[j] & 0xff);
  }
}
QUERN_INLINE void make_line(const float* x, int n, float, float* line) {
  for (int i = 0; i < kLineColumns && i < n; i += kLanes) store(line + i, load(x + i, n - i));
}

/// Lines of all tokens, then turned: a row's line is read once, and tokens that lie side by side are written so.
template <typename Word, int kColumns>
void store_turned(const KvRows& k, const float* inverse, Word* part) {
  alignas(64) Word lines[kAttentionBlock][kLineColumns / kColumns];
  for (int begin = 0; begin < k.width; begin += kLineColumns) {
    for (int t = 0; t < k.count; ++t) make_line(k.rows + t * k.stride + begin, k.width - begin, inverse[t], lines[t]);
    const int left = (k.width - begin + kColumns - 1) / kColumns;
    Word* to = part + static_cast<int64_t>(begin / kColumns) * kAttentionBlock + k.slot;
    for (int w = 0; w < kLineColumns / kColumns && w < left; ++w, to += kAttentionBlock)
      for (int t = 0; t < k.count; ++t) to[t] = lines[t][w];
  }
}

/// Scales of int8 rows go behind the part.
void set_scales(const KvRows& rows, float* inverse) {
  float* scales = const_cast<float*>(token_scales(reinterpret_cast<int8_t*>(rows.part), rows.width)) + rows.slot;
  for (int t = 0; t < rows.count; ++t) {
    const Scale scale = row_scale(rows.rows + t * rows.stride, rows.width);
    scales[t] = scale.value;
    inverse[t] = scale.inverse;
  }
}

void store_keys_f32(const KvRows& k) {
  const float none[kAttentionBlock] = {};
  store_turned<float, 1>(k, none, reinterpret_cast<float*>(k.part));
}
void store_keys_bf16(const KvRows& k) {
  const float none[kAttentionBlock] = {};
  store_turned<uint32_t, 2>(k, none, reinterpret_cast<uint32_t*>(k.part));
}
void store_keys_int8(const KvRows& k) {
  float inverse[kAttentionBlock];
  set_scales(k, inverse);
  store_turned<int8_t, 1>(k, inverse, reinterpret_cast<int8_t*>(k.part));
}

void store_values_f32(const KvRows& v) {
  float* to = reinterpret_cast<float*>(v.part) + static_cast<int64_t>(v.slot) * v.width;
  for (int t = 0; t < v.count; ++t, to += v.width)
    for (int c = 0; c < v.width; c += kLanes) store(to + c, load(v.rows + t * v.stride + c, v.width - c), v.width - c);
}
/// A word holds two tokens; where only one of them comes now, the other one's half stays.
void store_values_bf16(const KvRows& v) {
  for (int slot = v.slot & ~1; slot < v.slot + v.count; slot += 2) {
    float* words = reinterpret_cast<float*>(v.part) + static_cast<int64_t>(slot / 2) * v.width;
    const bool first = slot >= v.slot, second = slot + 1 < v.slot + v.count;
    const auto row = [&](int s) { return v.rows + (s - v.slot) * v.stride; };
    for (int c = 0; c < v.width; c += kLanes) {
      const int64_t n = v.width - c;
      F32x16 low, high;
      if (!first || !second) {
        const F32x16 old = load(words + c, n);
        low = low_half(old);
        high = old;
      }
      if (first) low = round_bf16(load(row(slot) + c, n));
      if (second) high = round_bf16(load(row(slot + 1) + c, n));
      store(words + c, pair_halves(low, high), n);
    }
  }
}
void store_values_int8(const KvRows& v) {
  float inverse[kAttentionBlock];
  set_scales(v, inverse);
  int8_t* to = reinterpret_cast<int8_t*>(v.part) + static_cast<int64_t>(v.slot) * v.width;
  for (int t = 0; t < v.count; ++t, to += v.width)
    for (int c = 0; c < v.width; c += kLineColumns) {
      int8_t line[kLineColumns];
      const int left = v.width - c, n = left < kLineColumns ? left : kLineColumns;
      make_line(v.rows + t * v.stride + c, left, inverse[t], line);
      for (int i = 0; i < n; ++i) to[c + i] = line[i];
    }
}

}  // namespace
}  // namespace quern::QUERN_ISA
