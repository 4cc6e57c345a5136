// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "quern/quant/quant.h"

namespace quern {

/// Sizes of a tensor, fastest dimension first (GGUF's order): a matrix W[out, in] of PyTorch has ne = {in, out}.
struct Shape {
  std::array<int64_t, 4> ne{1, 1, 1, 1};
  int rank = 1;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  int64_t elements() const { return ne[0] * ne[1] * ne[2] * ne[3]; }
  int64_t columns() const { return ne[0]; }
  int64_t rows() const { return ne[1] * ne[2] * ne[3]; }
  /// "[4096, 11008]"
  std::string text() const;
  bool operator==(const Shape&) const = default;
};

/// A tensor inside a mapped file. Borrows: valid while the file is open. Data may be unaligned.
struct TensorView {
  const QuantType* type = nullptr;
  Shape shape;
  std::span<const std::byte> data;

  /// Row r as floats, shape.columns() of them.
  void decode_row(int64_t r, float* out) const;
  std::span<const std::byte> row(int64_t r) const;
};

}  // namespace quern
