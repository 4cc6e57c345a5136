// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tiles of integers and of floats share, for *.kernel.cpp files only.

#include "quern/kernels/matmul.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

/// Rows of a register that starts at row `first`; y = sum [+ bias] [+ y].
QUERN_INLINE void write_rows(const PanelOutput& out, int token, int first, Reg sum) {
  float* y = out.y + token * out.stride + first;
  const int rows = out.rows - first;
  if (rows >= kRegLanes) {
    if (out.bias) sum = reg_add(sum, reg_load(out.bias + first));
    if (out.add) sum = reg_add(reg_load(y), sum);
    reg_store(y, sum);
    return;
  }
  float lanes[kRegLanes];
  reg_store(lanes, sum);
  for (int r = 0; r < rows; ++r) {
    const float biased = out.bias ? lanes[r] + out.bias[first + r] : lanes[r];
    y[r] = out.add ? y[r] + biased : biased;
  }
}

}  // namespace
}  // namespace quern::QUERN_ISA
