// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of docs/kernels.md as plain loops over the numbers of a file: what every level gives, bit for bit. For
// tests.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "quern/kernels/isa.h"
#include "quern/kernels/matmul.h"
#include "quern/quant/half.h"
#include "quern/quant/quant.h"

namespace quern {

/// All that levels differ in.
struct LevelArithmetic {
  bool fused;         ///< a * b + c is rounded once, not twice
  bool float_totals;  ///< sums of 128 columns of wide codes are float32, not int32
  explicit LevelArithmetic(Isa isa)
      : fused(isa != Isa::x86_64_v2), float_totals(isa == Isa::avx512 || isa == Isa::avx_vnni) {}

  float fma(float a, float b, float c) const { return fused ? std::fma(a, b, c) : a * b + c; }
};

/// One token's inputs as products see them.
struct RoundedInputs {
  int64_t columns;  ///< that share a d
  std::vector<int8_t> q;
  std::vector<float> d;

  RoundedInputs(std::span<const float> x, InputForm form) : columns(input_columns(form)), q(x.size()) {
    for (size_t first = 0; first < x.size(); first += columns) {
      const std::span<const float> group = x.subspan(first, columns);
      float largest = 0;
      bool finite = true;
      for (float v : group) {
        finite &= std::isfinite(v);
        largest = std::max(largest, std::abs(v));
      }
      if (form == InputForm::per_128)
        for (size_t at = 0; at < group.size(); at += 16)
          largest = std::max(largest, sum_of_16(group.subspan(at, 16)) * (127.0f / 1015));
      if (!finite || largest >= 0x1p100f) {
        d.push_back(std::numeric_limits<float>::quiet_NaN());
      } else if (largest < 0x1p-100f) {
        d.push_back(0);
      } else {
        const float exact = largest / 127;
        d.push_back(form == InputForm::per_128 ? exact : std::bit_cast<float>(std::bit_cast<uint32_t>(exact) & ~3u));
        const float scale = 127 / largest;
        for (size_t i = 0; i < group.size(); ++i) q[first + i] = static_cast<int8_t>(std::nearbyint(group[i] * scale));
      }
    }
  }

  /// Of magnitudes: four sums of columns 4 apart, then those.
  static float sum_of_16(std::span<const float> x) {
    float sums[4];
    for (int i = 0; i < 4; ++i)
      sums[i] = (std::abs(x[i]) + std::abs(x[i + 4])) + (std::abs(x[i + 8]) + std::abs(x[i + 12]));
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  float d_of(int64_t column) const { return d[column / columns]; }
  int sum(int64_t first, int64_t count) const {
    int total = 0;
    for (int64_t c = first; c < first + count; ++c) total += q[c];
    return total;
  }
};

/// A row of a file times one token, by each part of the sequence in turn.
class ReferenceProduct {
 public:
  ReferenceProduct(const QuantType& type, Isa isa) : type_(type), level_(isa) {}

  /// Of a quantized type.
  float operator()(std::span<const std::byte> row, const RoundedInputs& x) const {
    float f = 0;
    for (size_t at = 0, column = 0; at < row.size(); at += type_.block_bytes, column += type_.block_elems) {
      Block block = {.numbers = {}, .codes = std::vector<uint8_t>(type_.block_elems)};
      form().codes(&row[at], block.codes.data());
      form().numbers(&row[at], block.numbers);
      if (form().kind != ScaleKind::super) {
        f = add_32(block, x, column, f);
        continue;
      }
      for (int first = 0; first < type_.block_elems; first += 128) f = add_128(block, first, x, column, f);
    }
    return f;
  }

  /// Of plain floats.
  float operator()(std::span<const std::byte> row, std::span<const float> x) const {
    std::vector<float> weights(x.size());
    type_.decode(row.data(), weights.data(), std::ssize(weights));
    float sums[4] = {};
    for (size_t k = 0; k < x.size(); ++k) sums[k % 4] = level_.fma(weights[k], x[k], sums[k % 4]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

 private:
  struct Block {
    BlockNumbers numbers;
    std::vector<uint8_t> codes;
  };
  const IntegerForm& form() const { return *type_.integer; }

  /// Columns first .. first + count - 1 of a block that begins at `column`.
  int dot(const Block& block, int first, int count, const RoundedInputs& x, size_t column) const {
    int sum = 0;
    for (int i = first; i < first + count; ++i) {
      const int code = block.codes[i];
      sum += (form().levels ? form().levels[code] : code - form().zero) * x.q[column + i];
    }
    return sum;
  }

  float add_32(const Block& block, const RoundedInputs& x, size_t column, float f) const {
    const float d = x.d_of(column);
    f = level_.fma(static_cast<float>(dot(block, 0, 32, x, column)) * d, scale_32(block.numbers), f);
    if (form().has_min) f = level_.fma(half_to_float(block.numbers.min), d * static_cast<float>(x.sum(column, 32)), f);
    return f;
  }
  float scale_32(const BlockNumbers& numbers) const {
    if (form().kind == ScaleKind::half) return half_to_float(numbers.scale);
    return numbers.scale < 2 ? 0 : exponent_scale(numbers.scale);  // no denormals in a panel
  }

  float add_128(const Block& block, int first, const RoundedInputs& x, size_t column, float f) const {
    int total = 0, mins = 0;
    float float_total = 0;
    for (int at = first; at < first + 128; at += form().group) {
      const int g = at / form().group, part = dot(block, at, form().group, x, column);
      total += block.numbers.scales[g] * part;
      float_total = level_.fma(static_cast<float>(part), block.numbers.scales[g], float_total);
      if (form().has_min) mins += block.numbers.mins[g] * x.sum(static_cast<int64_t>(column) + at, form().group);
    }
    const float products = level_.float_totals && wide_codes() ? float_total : static_cast<float>(total);
    const float number = half_to_float(block.numbers.scale);
    const float sum = !form().has_min
                          ? number * products
                          : level_.fma(number, products, half_to_float(block.numbers.min) * static_cast<float>(mins));
    return level_.fma(sum, x.d_of(static_cast<int64_t>(column) + first), f);
  }

  /// Whether the products of 16 columns need more than 16 bits.
  bool wide_codes() const { return form().levels && *std::max_element(form().levels, form().levels + 16) >= 16; }

  const QuantType& type_;
  LevelArithmetic level_;
};

}  // namespace quern
