// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/vector.h"

#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  F32x16 squares = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32x16 v = load(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const float mean = sum(squares) / static_cast<float>(n);
  const F32x16 scale = broadcast(static_cast<float>(1 / __builtin_sqrt(static_cast<double>(mean) + eps)));
  for (int64_t i = 0; i < n; i += kLanes) store(out + i, load(x + i, n - i) * scale * load(weight + i, n - i), n - i);
}

void swiglu(const float* gate, const float* up, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32x16 g = load(gate + i, n - i);
    store(out + i, g * sigmoid(g) * load(up + i, n - i), n - i);
  }
}

void sigmoid_gate(float* x, const float* gate, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(x + i, load(x + i, n - i) * sigmoid(load(gate + i, n - i)), n - i);
}

void add_scaled(float* y, const float* x, float scale, int64_t n) {
  const F32x16 factor = broadcast(scale);
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, fma(load(x + i, n - i), factor, load(y + i, n - i)), n - i);
}

void rope_halves(float* x, const float* cos, const float* sin, int64_t pairs) {
  float* y = x + pairs;
  for (int64_t i = 0; i < pairs; i += kLanes) {
    const int64_t left = pairs - i;
    const F32x16 a = load(x + i, left), b = load(y + i, left), c = load(cos + i, left), s = load(sin + i, left);
    store(x + i, a * c - b * s, left);
    store(y + i, a * s + b * c, left);
  }
}

void rope_interleaved(float* x, const float* cos, const float* sin, int64_t pairs) {
  int64_t i = 0;
  for (; i + kLanes <= pairs; i += kLanes) {
    F32x16 a, b;
    load_pairs(x + 2 * i, a, b);
    const F32x16 c = load(cos + i), s = load(sin + i);
    store_pairs(x + 2 * i, a * c - b * s, a * s + b * c);
  }
  for (; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

}  // namespace

extern const VectorKernels vector_kernels;
const VectorKernels vector_kernels = {rms_norm, swiglu, sigmoid_gate, add_scaled, rope_halves, rope_interleaved};

}  // namespace quern::QUERN_ISA
