// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/elementwise.h"

#include "quern/kernels/vector.h"

namespace quern {
void rms_norm(const Worker& worker, const KernelTable& kernels, const float* x, int64_t x_stride, const float* weight,
              float eps, float* out, int64_t out_stride, int64_t tokens, int64_t width) {
  const auto [begin, end] = worker.share(tokens);
  for (int64_t t = begin; t < end; ++t)
    kernels.vector->rms_norm(x + t * x_stride, weight, eps, out + t * out_stride, width);
}

}  // namespace quern
