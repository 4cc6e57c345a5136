// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/delta.h"

#include <cmath>

#include "quern/kernels/delta.h"
#include "quern/ops/test_support.h"

namespace quern {
namespace {

// ---- Causal convolution.

struct ConvShape {
  int kernel;
  int64_t channels;
};
constexpr ConvShape kConvShapes[] = {{4, 8}, {3, 20}, {4, 64}, {7, 33}, {1, 16}, {12, 40}, {300, 18}};

class CausalConv : public OnEveryIsa {
 protected:
  /// Walks the tokens in chunks (the last repeats); returns outputs [tokens, channels] and leaves the new state in
  /// `state`.
  std::vector<float> walk(const ConvShape& shape, const std::vector<float>& x, const std::vector<float>& weight,
                          std::vector<float>& state, const std::vector<int>& chunks, int threads) const {
    const int64_t channels = shape.channels, x_stride = channels + 3,
                  tokens = static_cast<int64_t>(x.size()) / x_stride;
    std::vector<float> out(tokens * channels, NAN);
    Pool pool(threads);
    size_t chunk = 0;
    for (int64_t t = 0; t < tokens; ++chunk) {
      const int64_t count = std::min<int64_t>(chunks[std::min(chunk, chunks.size() - 1)], tokens - t);
      const RecurrentRun run = {0, static_cast<int>(count), state.data()};
      pool.run([&](const Worker& worker) {
        causal_conv_silu(worker, kernels(), {&run, 1}, &x[t * x_stride], x_stride, weight.data(), shape.kernel,
                         channels, &out[t * channels], channels);
      });
      t += count;
    }
    return out;
  }
};

TEST_P(CausalConv, matches_double_and_keeps_the_last_inputs) {
  for (const ConvShape& shape : kConvShapes) {
    const int64_t tokens = 11, stride = shape.channels + 3;
    const auto x = random_floats(tokens * stride, 1), weight = random_floats(shape.channels * shape.kernel, 2);
    const auto before = random_floats((shape.kernel - 1) * shape.channels, 3);
    auto state = before;
    const auto out = walk(shape, x, weight, state, {11}, 2);
    for (int64_t c = 0; c < shape.channels; ++c) {
      const auto input = [&](int64_t t) {
        return t < 0 ? before[(t + shape.kernel - 1) * shape.channels + c] : x[t * stride + c];
      };
      for (int64_t t = 0; t < tokens; ++t) {
        double sum = 0, size = 0;
        for (int j = 0; j < shape.kernel; ++j) {
          const double product = double{weight[c * shape.kernel + j]} * input(t - shape.kernel + 1 + j);
          sum += product;
          size += std::abs(product);
        }
        const double expected = sum / (1 + std::exp(-sum));
        // One rounding per tap, doubled by the slope of SiLU (1.1) and the sigmoid's own error of 5e-7.
        ASSERT_NEAR(out[t * shape.channels + c], expected, size * (shape.kernel + 10) * 2 * 0x1p-24) << shape.kernel;
      }
      for (int j = 0; j < shape.kernel - 1; ++j)
        ASSERT_EQ(state[j * shape.channels + c], input(tokens - shape.kernel + 1 + j));
    }
  }
}

TEST_P(CausalConv, bits_do_not_depend_on_chunks_or_threads) {
  for (const ConvShape& shape : kConvShapes) {
    const auto x = random_floats(11 * (shape.channels + 3), 4),
               weight = random_floats(shape.channels * shape.kernel, 5);
    std::vector<float> whole_state((shape.kernel - 1) * shape.channels);
    const auto whole = walk(shape, x, weight, whole_state, {11}, 1);
    for (const std::vector<int>& chunks : {std::vector<int>{1}, {2}, {5, 1, 3}})
      for (int threads : {1, 3}) {
        std::vector<float> state(whole_state.size());
        EXPECT_EQ(walk(shape, x, weight, state, chunks, threads), whole);
        EXPECT_EQ(state, whole_state);
      }
  }
}

TEST_P(CausalConv, tokens_taken_back_leave_no_trace) {
  constexpr int kTokens = 9;
  for (const ConvShape& shape : kConvShapes) {
    const int64_t channels = shape.channels, stride = channels + 3;
    const auto x = random_floats(kTokens * stride, 6), weight = random_floats(channels * shape.kernel, 7);
    const auto before = random_floats((shape.kernel - 1) * channels, 8);
    auto whole_state = before;
    const auto whole = walk(shape, x, weight, whole_state, {kTokens}, 1);
    for (int threads : {1, 3}) {
      auto state = before;
      std::vector<float> out(kTokens * channels, NAN), journal(kTokens * channels, NAN);
      const RecurrentRun run = {0, kTokens, state.data(), journal.data()};
      run_on(threads, [&](const Worker& worker) {
        causal_conv_silu(worker, kernels(), {&run, 1}, x.data(), stride, weight.data(), shape.kernel, channels,
                         out.data(), channels);
      });
      EXPECT_EQ(out, whole);
      EXPECT_EQ(state, before);
      for (int kept = 1; kept <= kTokens; ++kept) {
        auto expected = before;
        walk(shape, {x.begin(), x.begin() + kept * stride}, weight, expected, {1}, 1);
        auto replayed = before;
        const ReplayRun replay = {kept, kTokens, replayed.data(), journal.data()};
        run_on(threads,
               [&](const Worker& worker) { causal_conv_replay(worker, {&replay, 1}, shape.kernel, channels); });
        EXPECT_EQ(replayed, expected) << kept << " kept, kernel " << shape.kernel;
      }
    }
  }
}

QUERN_ON_EVERY_ISA(CausalConv);

// ---- Delta rule.

struct DeltaShape {
  int key_heads, value_heads, key_width, value_width;
  bool interleaved = false;
};
constexpr DeltaShape kDeltaShapes[] = {{1, 1, 2, 2},   {1, 2, 8, 8},     {2, 6, 12, 20},         {2, 6, 12, 20, true},
                                       {1, 3, 64, 64}, {2, 4, 128, 128}, {2, 4, 128, 128, true}, {1, 1, 300, 72},
                                       {1, 1, 24, 33}, {1, 2, 600, 40}};

struct DeltaInputs {
  std::vector<float> q, k, v, gate, beta;
};

DeltaInputs random_inputs(const DeltaShape& s, int64_t tokens, uint32_t seed) {
  DeltaInputs in{random_floats(tokens * s.key_heads * s.key_width, seed),
                 random_floats(tokens * s.key_heads * s.key_width, seed + 1),
                 random_floats(tokens * s.value_heads * s.value_width, seed + 2),
                 random_floats(tokens * s.value_heads, seed + 3), random_floats(tokens * s.value_heads, seed + 4)};
  for (float& g : in.gate) g = -std::exp(2 * g);  // from nearly nothing to tens
  for (float& b : in.beta) b = 1 / (1 + std::exp(-b));
  return in;
}

DeltaInputs first_of(const DeltaShape& s, const DeltaInputs& in, int64_t tokens) {
  const auto cut = [](const std::vector<float>& x, int64_t n) { return std::vector<float>(x.begin(), x.begin() + n); };
  const int64_t keys = tokens * s.key_heads * s.key_width, values = tokens * s.value_heads;
  return {cut(in.q, keys), cut(in.k, keys), cut(in.v, values * s.value_width), cut(in.gate, values),
          cut(in.beta, values)};
}

/// The recurrence as the paper states it: S ← e^g S; δ = β (v − Sᵀk); S ← S + k δᵀ; o = Sᵀq. In double, one head at a
/// time.
struct Reference {
  std::vector<double> out, state;
};
Reference reference(const DeltaShape& s, const DeltaInputs& in, const std::vector<float>& start) {
  const int kw = s.key_width, vw = s.value_width;
  const int64_t tokens = static_cast<int64_t>(in.gate.size()) / s.value_heads;
  Reference r{std::vector<double>(in.v.size()), {start.begin(), start.end()}};
  for (int64_t t = 0; t < tokens; ++t)
    for (int h = 0; h < s.value_heads; ++h) {
      const int key_head = s.interleaved ? h % s.key_heads : h / (s.value_heads / s.key_heads);
      const auto unit = [&](const std::vector<float>& x) {
        std::vector<double> out(&x[(t * s.key_heads + key_head) * kw], &x[(t * s.key_heads + key_head) * kw] + kw);
        double squares = 1e-6;
        for (double y : out) squares += y * y;
        for (double& y : out) y /= std::sqrt(squares);
        return out;
      };
      const auto q = unit(in.q), k = unit(in.k);
      double* state = &r.state[h * kw * vw];
      const double decay = std::exp(double{in.gate[t * s.value_heads + h]});
      for (int c = 0; c < vw; ++c) {
        double seen = 0, out = 0;
        for (int i = 0; i < kw; ++i) seen += (state[i * vw + c] *= decay) * k[i];
        const double delta = in.beta[t * s.value_heads + h] * (in.v[(t * s.value_heads + h) * vw + c] - seen);
        for (int i = 0; i < kw; ++i) out += (state[i * vw + c] += k[i] * delta) * q[i] / std::sqrt(kw);
        r.out[(t * s.value_heads + h) * vw + c] = out;
      }
    }
  return r;
}

class DeltaRule : public OnEveryIsa {
 protected:
  std::vector<float> walk(const DeltaShape& s, const DeltaInputs& in, std::vector<float>& state,
                          const std::vector<int>& chunks, int threads, float* journal = nullptr) const {
    // As the model has them: q, k, v side by side in one row.
    const int64_t k_row = s.key_heads * s.key_width, v_row = s.value_heads * s.value_width,
                  stride = 2 * k_row + v_row + 1;
    const int64_t tokens = static_cast<int64_t>(in.gate.size()) / s.value_heads;
    std::vector<float> qkv(tokens * stride, NAN), out(tokens * v_row, NAN);
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(&in.q[t * k_row], k_row, &qkv[t * stride]);
      std::copy_n(&in.k[t * k_row], k_row, &qkv[t * stride + k_row]);
      std::copy_n(&in.v[t * v_row], v_row, &qkv[t * stride + 2 * k_row]);
    }
    Pool pool(threads);
    size_t chunk = 0;
    for (int64_t t = 0; t < tokens; ++chunk) {
      const int64_t count = std::min<int64_t>(chunks[std::min(chunk, chunks.size() - 1)], tokens - t);
      const RecurrentRun run = {0, static_cast<int>(count), state.data(), journal};
      pool.run([&](const Worker& worker) {
        delta_rule(worker, kernels(),
                   {.runs = {&run, 1},
                    .q = &qkv[t * stride],
                    .k = &qkv[t * stride + k_row],
                    .v = &qkv[t * stride + 2 * k_row],
                    .qkv_stride = stride,
                    .gate = &in.gate[t * s.value_heads],
                    .beta = &in.beta[t * s.value_heads],
                    .out = &out[t * v_row],
                    .key_heads = s.key_heads,
                    .value_heads = s.value_heads,
                    .key_width = s.key_width,
                    .value_width = s.value_width,
                    .interleaved_heads = s.interleaved});
      });
      t += count;
    }
    return out;
  }
};

TEST_P(DeltaRule, tokens_taken_back_leave_no_trace) {
  for (const DeltaShape& shape : kDeltaShapes) {
    for (const int tokens : {2, 5, 17, kMostVerifiedTokens}) {
      const DeltaInputs in = random_inputs(shape, tokens, 47);
      const auto start = random_floats(shape.value_heads * shape.key_width * shape.value_width, 53);
      auto whole_state = start;
      const auto whole = walk(shape, in, whole_state, {tokens}, 1);
      const int64_t row = delta_journal_floats(shape.key_heads, shape.value_heads, shape.key_width, shape.value_width);
      for (int threads : {1, 3}) {
        auto state = start;
        std::vector<float> journal(tokens * row, NAN);
        ASSERT_EQ(walk(shape, in, state, {tokens}, threads, journal.data()), whole);
        ASSERT_EQ(state, start);
        for (int kept : {1, 2, tokens - 1, tokens}) {
          auto expected = start;
          walk(shape, first_of(shape, in, kept), expected, {1}, 1);
          auto replayed = start;
          const ReplayRun replay = {kept, tokens, replayed.data(), journal.data()};
          run_on(threads, [&](const Worker& worker) {
            delta_replay(worker, kernels(),
                         {.runs = {&replay, 1},
                          .key_heads = shape.key_heads,
                          .value_heads = shape.value_heads,
                          .key_width = shape.key_width,
                          .value_width = shape.value_width,
                          .interleaved_heads = shape.interleaved});
          });
          ASSERT_EQ(replayed, expected) << kept << " of " << tokens << " kept, keys of " << shape.key_width;
        }
      }
    }
  }
}

TEST_P(DeltaRule, gives_the_known_answers) {
  const DeltaShape shape{1, 1, 2, 2};
  const DeltaInputs in{
      {1, 2, 0.5f, -1, 2, 0}, {0, 1, 1, 1, 3, -4}, {1, -1, 2, 0, 0.5f, 3}, {-0.1f, -0.5f, -2}, {0.5f, 1, 0.25f}};
  std::vector<float> state(4);
  const auto out = walk(shape, in, state, {3}, 1);
  // Given to seven digits by two other programs' double precision; ours adds some ten roundings.
  const double expected[] = {0.3162276, -0.3162276, -0.5910646, 0.1438513, 0.1809648, 0.3296615};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(out[i], expected[i], 6e-7) << i;
  const double final_state[] = {0.2559230, 0.4662118, 0.0985125, -0.6147753};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(state[i], final_state[i], 6e-7) << i;
}

TEST_P(DeltaRule, matches_the_recurrence_in_double) {
  for (const DeltaShape& shape : kDeltaShapes) {
    const DeltaInputs in = random_inputs(shape, 60, 11);
    const auto start = random_floats(shape.value_heads * shape.key_width * shape.value_width, 17);
    auto state = start;
    const auto out = walk(shape, in, state, {60}, 2);
    const Reference r = reference(shape, in, start);
    // k and q have unit length and e^g <= 1, so errors do not grow: each of 60 tokens adds some 8 independent roundings
    // of numbers of the state's and the values' size, rarely above 4.
    const double tolerance = std::sqrt(60) * 8 * 4 * 0x1p-24;
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], r.out[i], tolerance) << shape.key_width << ' ' << i;
    for (size_t i = 0; i < state.size(); ++i)
      ASSERT_NEAR(state[i], r.state[i], tolerance) << shape.key_width << ' ' << i;
  }
}

TEST_P(DeltaRule, bits_do_not_depend_on_chunks_or_threads) {
  for (const DeltaShape& shape : kDeltaShapes) {
    const DeltaInputs in = random_inputs(shape, 37, 23);
    const auto start = random_floats(shape.value_heads * shape.key_width * shape.value_width, 29);
    auto whole_state = start;
    const auto whole = walk(shape, in, whole_state, {37}, 1);
    for (const std::vector<int>& chunks : {std::vector<int>{1}, {2}, {7}, {30, 1, 4}})
      for (int threads : {1, 2, 3, 7}) {
        auto state = start;
        ASSERT_EQ(walk(shape, in, state, chunks, threads), whole) << shape.key_width;
        ASSERT_EQ(state, whole_state) << shape.key_width;
      }
  }
}

TEST_P(DeltaRule, sequences_of_a_batch_do_not_touch_each_other) {
  const DeltaShape shape{2, 4, 24, 40};
  const int64_t k_row = 48, v_row = 160;
  const DeltaInputs in = random_inputs(shape, 10, 41);  // tokens 0..8 are one sequence, 9 another
  const auto slice = [&](int64_t from, int64_t to) {
    return DeltaInputs{{&in.q[from * k_row], &in.q[0] + to * k_row},
                       {&in.k[from * k_row], &in.k[0] + to * k_row},
                       {&in.v[from * v_row], &in.v[0] + to * v_row},
                       {&in.gate[from * 4], &in.gate[0] + to * 4},
                       {&in.beta[from * 4], &in.beta[0] + to * 4}};
  };
  std::vector<float> first_state(4 * 24 * 40), second_state(4 * 24 * 40);
  auto first_together = first_state, second_together = second_state;
  auto expected = walk(shape, slice(0, 9), first_state, {9}, 1);
  const auto second = walk(shape, slice(9, 10), second_state, {1}, 1);
  expected.insert(expected.end(), second.begin(), second.end());
  const RecurrentRun runs[] = {{0, 9, first_together.data()}, {9, 1, second_together.data()}};
  std::vector<float> out(10 * v_row);
  std::vector<float> qkv;
  for (int64_t t = 0; t < 10; ++t) {
    qkv.insert(qkv.end(), &in.q[t * k_row], &in.q[t * k_row] + k_row);
    qkv.insert(qkv.end(), &in.k[t * k_row], &in.k[t * k_row] + k_row);
    qkv.insert(qkv.end(), &in.v[t * v_row], &in.v[t * v_row] + v_row);
  }
  run_on(3, [&](const Worker& worker) {
    delta_rule(worker, kernels(),
               {.runs = runs,
                .q = &qkv[0],
                .k = &qkv[k_row],
                .v = &qkv[2 * k_row],
                .qkv_stride = 2 * k_row + v_row,
                .gate = in.gate.data(),
                .beta = in.beta.data(),
                .out = out.data(),
                .key_heads = 2,
                .value_heads = 4,
                .key_width = 24,
                .value_width = 40,
                .interleaved_heads = false});
  });
  EXPECT_EQ(out, expected);
  EXPECT_EQ(first_together, first_state);
  EXPECT_EQ(second_together, second_state);
}

QUERN_ON_EVERY_ISA(DeltaRule);

}  // namespace
}  // namespace quern
