// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace quern {

/// Elementwise work on rows of floats. Any length, any alignment; an element's bits depend on its row alone.
struct VectorKernels {
  /// out = w ∘ x / sqrt(mean(x²) + eps); `out` may be `x`.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, int64_t n);
  /// out = gate sigmoid(gate) ∘ up; `out` may be `gate`.
  void (*swiglu)(const float* gate, const float* up, float* out, int64_t n);
  /// x = x ∘ sigmoid(gate)
  void (*sigmoid_gate)(float* x, const float* gate, int64_t n);
  /// y = fma(x, scale, y)
  void (*add_scaled)(float* y, const float* x, float scale, int64_t n);
  /// Rotates the pairs (x[i], x[i + pairs]).
  void (*rope_halves)(float* x, const float* cos, const float* sin, int64_t pairs);
  /// Rotates the pairs (x[2i], x[2i + 1]).
  void (*rope_interleaved)(float* x, const float* cos, const float* sin, int64_t pairs);
};

}  // namespace quern
