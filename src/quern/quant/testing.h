// SPDX-License-Identifier: Apache-2.0
#pragma once

// What tests of this folder and of ops share: the integer form of a block as plain numbers.

#include <vector>

#include "quern/quant/half.h"
#include "quern/quant/quant.h"

namespace quern {

struct SplitBlock {
  std::vector<uint8_t> codes;       // by element
  std::vector<float> scales, mins;  // by group

  SplitBlock(const QuantType& type, const std::byte* block)
      : codes(type.block_elems), scales(type.block_elems / type.integer->group), mins(scales.size()) {
    const IntegerForm& form = *type.integer;
    BlockNumbers numbers = {};
    form.codes(block, codes.data());
    form.numbers(block, numbers);
    for (size_t g = 0; g < scales.size(); ++g) {
      scales[g] = form.kind == ScaleKind::exponent ? exponent_scale(numbers.scale) : half_to_float(numbers.scale);
      mins[g] = form.has_min ? half_to_float(numbers.min) : 0;
      if (form.kind != ScaleKind::super) continue;
      scales[g] *= static_cast<float>(numbers.scales[g]);
      mins[g] *= static_cast<float>(numbers.mins[g]);
    }
  }
};

}  // namespace quern
