// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/vector.h"

#include <cmath>

#include "quern/ops/test_support.h"

namespace quern {
namespace {

// Widths that fill vectors, leave tails, and are smaller than one.
constexpr int kWidths[] = {1, 8, 12, 16, 20, 64, 72, 100, 256, 1000};
// Relative: a sum of n squares is off by at most n/16 + 4 roundings, its root by half; three more for the products.
double norm_tolerance(int width) { return (width / 32.0 + 6) * 0x1p-24; }

std::vector<double> norm_reference(const float* x, const float* w, float eps, int width) {
  double squares = 0;
  for (int i = 0; i < width; ++i) squares += double{x[i]} * x[i];
  std::vector<double> out(width);
  for (int i = 0; i < width; ++i) out[i] = w[i] * (x[i] / std::sqrt(squares / width + eps));
  return out;
}

class VectorKernels : public OnEveryIsa {};

TEST_P(VectorKernels, rms_norm_matches_double) {
  for (int width : kWidths) {
    const int tokens = 5, stride = width + 3;
    const std::vector<float> x = random_floats(tokens * stride, 1, 4), w = random_floats(width, 2);
    std::vector<float> out(tokens * stride, -7);
    for (int t = 0; t < tokens; ++t)
      kernels().vector->rms_norm(&x[t * stride], w.data(), 1e-5f, &out[t * stride], width);
    for (int t = 0; t < tokens; ++t) {
      const auto expected = norm_reference(&x[t * stride], w.data(), 1e-5f, width);
      for (int i = 0; i < width; ++i)
        ASSERT_NEAR(out[t * stride + i], expected[i], norm_tolerance(width) * std::abs(expected[i])) << width;
      for (int i = width; i < stride; ++i) ASSERT_EQ(out[t * stride + i], -7) << "wrote behind the row";
    }
  }
}

TEST_P(VectorKernels, rms_norm_works_in_place) {
  std::vector<float> x = random_floats(100, 5), out(x.size());
  const std::vector<float> w = random_floats(100, 6);
  kernels().vector->rms_norm(x.data(), w.data(), 1e-6f, out.data(), 100);
  kernels().vector->rms_norm(x.data(), w.data(), 1e-6f, x.data(), 100);
  EXPECT_EQ(x, out);
}

// e^x is good to 2e-7; the sums, quotients and products around it add 4 roundings of 6e-8.
constexpr double kSigmoidTolerance = 5e-7;

TEST_P(VectorKernels, swiglu_matches_double_over_the_whole_range) {
  std::vector<float> gate = random_floats(3 * 333, 7, 30), up = random_floats(3 * 333, 8), out(gate.size());
  gate[0] = 0;
  gate[1] = -80;
  gate[2] = 1e4f;
  gate[3] = -1e4f;
  kernels().vector->swiglu(gate.data(), up.data(), out.data(), std::ssize(gate));
  for (size_t i = 0; i < gate.size(); ++i) {
    const double expected = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
    // Below e^-88 the sigmoid stops shrinking: an absolute error of 1e4 * 1e-38 * |up|.
    ASSERT_NEAR(out[i], expected, kSigmoidTolerance * std::abs(expected) + 1e-33) << gate[i];
  }
}

TEST_P(VectorKernels, sigmoid_gate_matches_double) {
  const int tokens = 4, width = 50, x_stride = 60, gate_stride = 120;
  const std::vector<float> x = random_floats(tokens * x_stride, 9), gate = random_floats(tokens * gate_stride, 10, 20);
  std::vector<float> out = x;
  for (int t = 0; t < tokens; ++t) kernels().vector->sigmoid_gate(&out[t * x_stride], &gate[t * gate_stride], width);
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < x_stride; ++i) {
      const double before = x[t * x_stride + i];
      const double expected = i < width ? before / (1 + std::exp(-double{gate[t * gate_stride + i]})) : before;
      ASSERT_NEAR(out[t * x_stride + i], expected, kSigmoidTolerance * std::abs(expected));
    }
}

TEST_P(VectorKernels, nan_stays_nan) {
  std::vector<float> gate(20, 1.0f), up(20, 1.0f), out(20);
  gate[3] = gate[19] = std::nanf("");
  kernels().vector->swiglu(gate.data(), up.data(), out.data(), 20);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(out[i]), i == 3 || i == 19) << i;
}

QUERN_ON_EVERY_ISA(VectorKernels);

}  // namespace
}  // namespace quern
