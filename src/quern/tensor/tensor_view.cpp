// SPDX-License-Identifier: Apache-2.0
#include "quern/tensor/tensor_view.h"

#include <fmt/ranges.h>

#include "quern/base/check.h"

namespace quern {

Shape::Shape(std::initializer_list<int64_t> sizes) : rank(static_cast<int>(sizes.size())) {
  QUERN_CHECK(sizes.size() >= 1 && sizes.size() <= 4, "a shape has 1 to 4 sizes");
  int i = 0;
  for (int64_t n : sizes) ne[i++] = n;
}

std::string Shape::text() const { return fmt::format("[{}]", fmt::join(ne.begin(), ne.begin() + rank, ", ")); }

std::span<const std::byte> TensorView::row(int64_t r) const {
  const int64_t bytes = type->row_bytes(shape.columns());
  return data.subspan(r * bytes, bytes);
}

void TensorView::decode_row(int64_t r, float* out) const {
  type->decode(row(r).data(), out, shape.columns() / type->block_elems);
}

}  // namespace quern
