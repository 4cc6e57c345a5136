// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/elementwise.h"

#include "quern/kernels/vector.h"

namespace quern {
namespace {
// Two cache lines: workers do not write into each other's.
constexpr int64_t kGrain = 32;
}  // namespace

void rms_norm(const Worker& worker, const KernelTable& kernels, const float* x, int64_t x_stride, const float* weight,
              float eps, float* out, int64_t out_stride, int64_t tokens, int64_t width) {
  const auto [begin, end] = worker.share(tokens);
  for (int64_t t = begin; t < end; ++t)
    kernels.vector->rms_norm(x + t * x_stride, weight, eps, out + t * out_stride, width);
}

void rms_norm_heads(const Worker& worker, const KernelTable& kernels, float* x, int64_t stride, const float* weight,
                    float eps, int64_t tokens, int heads, int width) {
  const auto [begin, end] = worker.share(tokens * heads);
  for (int64_t i = begin; i < end; ++i) {
    float* head = x + i / heads * stride + i % heads * width;
    kernels.vector->rms_norm(head, weight, eps, head, width);
  }
}

void swiglu(const Worker& worker, const KernelTable& kernels, const float* gate, const float* up, float* out,
            int64_t tokens, int64_t width) {
  // Contiguous, and every element by itself: one token is enough for all workers.
  const auto [begin, end] = worker.share(tokens * width, kGrain);
  if (begin < end) kernels.vector->swiglu(gate + begin, up + begin, out + begin, end - begin);
}

void sigmoid_gate(const Worker& worker, const KernelTable& kernels, float* x, int64_t x_stride, const float* gate,
                  int64_t gate_stride, int64_t tokens, int64_t width) {
  const auto [begin, end] = worker.share(tokens);
  for (int64_t t = begin; t < end; ++t) kernels.vector->sigmoid_gate(x + t * x_stride, gate + t * gate_stride, width);
}

}  // namespace quern
