// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"

namespace quern {

// Workers split the tokens (or tokens × heads) of these; a barrier goes before another worker reads the result.

/// out[t] = w ∘ x[t] / sqrt(mean(x[t]²) + eps), t < tokens; `out` may be `x`. Strides are in floats.
void rms_norm(const Worker& worker, const KernelTable& kernels, const float* x, int64_t x_stride, const float* weight,
              float eps, float* out, int64_t out_stride, int64_t tokens, int64_t width);

/// The same over each head of x [tokens, stride], heads * width of them from the row's start; one weight for all heads.
/// In place.
void rms_norm_heads(const Worker& worker, const KernelTable& kernels, float* x, int64_t stride, const float* weight,
                    float eps, int64_t tokens, int heads, int width);

/// out = silu(gate) ∘ up, all [tokens, width] contiguous.
void swiglu(const Worker& worker, const KernelTable& kernels, const float* gate, const float* up, float* out,
            int64_t tokens, int64_t width);

/// x ∘ sigmoid(gate), in place; strides in floats.
void sigmoid_gate(const Worker& worker, const KernelTable& kernels, float* x, int64_t x_stride, const float* gate,
                  int64_t gate_stride, int64_t tokens, int64_t width);

}  // namespace quern
