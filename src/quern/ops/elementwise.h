// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"

namespace quern {

/// Workers split the tokens; a barrier goes before another worker reads the result.
/// out[t] = w ∘ x[t] / sqrt(mean(x[t]²) + eps), t < tokens; `out` may be `x`. Strides are in floats.
void rms_norm(const Worker& worker, const KernelTable& kernels, const float* x, int64_t x_stride, const float* weight,
              float eps, float* out, int64_t out_stride, int64_t tokens, int64_t width);

}  // namespace quern
