// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>

#include "quern/ops/test_support.h"

namespace quern {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// What one worker sees of a routing, checked to be what all see.
struct Routed {
  std::vector<int> begins, tokens;
  std::vector<float> weights;

  Routed(const RouterSpec& spec, const std::vector<float>& logits, int threads = 2) {
    const int64_t n = std::ssize(logits) / spec.n_expert;
    Workspace workspace;
    Routing routing(workspace, threads, n, spec.n_expert, spec.n_used);
    std::vector<Routed> seen(threads);
    run_on(threads, [&](const Worker& worker) {
      routing.route(worker, spec, logits.data(), n);
      seen[worker.index()] = Routed(routing.slots(worker));
    });
    *this = seen[0];
    EXPECT_TRUE(std::ranges::all_of(seen, [&](const Routed& other) { return other == *this; }));
  }
  Routed() = default;
  explicit Routed(const Slots& slots)
      : begins(slots.begins.begin(), slots.begins.end()),
        tokens(slots.token.begin(), slots.token.end()),
        weights(slots.weight.begin(), slots.weight.end()) {}
  /// Bits: weights may be no numbers.
  bool operator==(const Routed& other) const {
    return begins == other.begins && tokens == other.tokens &&
           std::ranges::equal(std::as_bytes(std::span(weights)), std::as_bytes(std::span(other.weights)));
  }

  /// The experts of a token and their weights, by expert.
  std::vector<std::pair<int, double>> of_token(int token) const {
    std::vector<std::pair<int, double>> out;
    for (int e = 0; e + 1 < std::ssize(begins); ++e)
      for (int s = begins[e]; s < begins[e + 1]; ++s)
        if (tokens[s] == token) out.emplace_back(e, weights[s]);
    return out;
  }
  std::vector<int> experts(int token) const {
    std::vector<int> out;
    for (const auto& [e, weight] : of_token(token)) out.push_back(e);
    return out;
  }
};

/// Experts by falling score, of equals the first, and their weights in double.
std::vector<std::pair<int, double>> choice_reference(const RouterSpec& spec, std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  std::vector<double> scores;
  double sum = 0;
  for (float x : logits) sum += std::exp(x - most);
  for (float x : logits)
    scores.push_back(spec.scoring == RouterSpec::Scoring::softmax ? std::exp(x - most) / sum : 1 / (1 + std::exp(-x)));
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  double total = 0;
  std::vector<std::pair<int, double>> out;
  for (int i = 0; i < spec.n_used; ++i) total += scores[order[i]];
  for (int i = 0; i < spec.n_used; ++i)
    out.emplace_back(order[i], spec.scale * scores[order[i]] / (spec.normalised ? total : 1));
  return out;
}

TEST(Routing, chooses_the_best_and_weighs_them) {
  using enum RouterSpec::Scoring;
  for (const RouterSpec& spec : {RouterSpec{.n_expert = 7, .n_used = 3}, RouterSpec{.n_expert = 1, .n_used = 1},
                                 RouterSpec{.n_expert = 128, .n_used = 8, .normalised = false},
                                 RouterSpec{.n_expert = 5, .n_used = 5, .scale = 2.5f},
                                 RouterSpec{.n_expert = 16, .n_used = 4, .scoring = sigmoid},
                                 RouterSpec{.n_expert = 16, .n_used = 4, .scoring = sigmoid, .normalised = false}})
    for (int tokens : {1, 33}) {
      const auto logits = random_floats(tokens * spec.n_expert, 3, 2);
      const Routed routed(spec, logits);
      for (int t = 0; t < tokens; ++t) {
        auto want = choice_reference(spec, std::span(logits).subspan(t * spec.n_expert, spec.n_expert));
        std::ranges::sort(want);
        const auto got = routed.of_token(t);
        ASSERT_EQ(got.size(), want.size()) << t;
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_EQ(got[i].first, want[i].first) << t;
          // exp to an ulp or two, a quotient, a sum of n_used, a quotient, a product.
          EXPECT_NEAR(got[i].second, want[i].second, (spec.n_used + 6) * 0x1p-24 * want[i].second);
        }
      }
    }
}

TEST(Routing, of_equal_scores_the_first_experts_win) {
  const Routed routed({.n_expert = 6, .n_used = 3}, {1, 1, 1, 1, 1, 1, 0, 2, 0, 2, 0, 0, 0, 0, 5, 0, 0, 5});
  EXPECT_EQ(routed.experts(0), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(routed.experts(1), (std::vector<int>{0, 1, 3}));
  EXPECT_EQ(routed.experts(2), (std::vector<int>{0, 2, 5}));
}

TEST(Routing, chooses_experts_that_exist_whatever_the_logits) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits : {std::vector<float>{kNaN, kNaN, kNaN, kNaN},
                                           {kNaN, 1, 2, kNaN},
                                           {1, kNaN, kNaN, 3},
                                           {-kInf, -kInf, -kInf, -kInf},
                                           {kInf, 0, kInf, 1},
                                           {-1e30f, 1e30f, 0, 0}}) {
    const Routed routed({.n_expert = 4, .n_used = 2}, logits);
    EXPECT_EQ(routed.begins.size(), 5u);
    EXPECT_EQ(routed.begins.back(), 2);
    const auto experts = routed.experts(0);
    ASSERT_EQ(experts.size(), 2u);
    EXPECT_NE(experts[0], experts[1]);
  }
}

TEST(Routing, slots_lie_by_expert_and_within_by_token) {
  const RouterSpec spec{.n_expert = 9, .n_used = 4};
  for (int tokens : {0, 1, 2, 4, 5, 50}) {
    auto logits = random_floats(tokens * spec.n_expert, 5);
    for (int t = 0; t < tokens; ++t) logits[t * spec.n_expert + 3] = -50;  // nobody's choice
    const Routed routed(spec, logits, 3);
    ASSERT_EQ(std::ssize(routed.begins), spec.n_expert + 1);
    EXPECT_EQ(routed.begins.front(), 0);
    EXPECT_EQ(routed.begins[3], routed.begins[4]);
    EXPECT_EQ(routed.begins.back(), tokens * spec.n_used);
    for (int e = 0; e < spec.n_expert; ++e)
      for (int s = routed.begins[e]; s + 1 < routed.begins[e + 1]; ++s)
        EXPECT_LT(routed.tokens[s], routed.tokens[s + 1]) << e;
    for (int t = 0; t < tokens; ++t) EXPECT_EQ(std::ssize(routed.of_token(t)), spec.n_used) << t;
    EXPECT_EQ(Routed(spec, logits, 1), routed);
  }
}

/// Few tokens go another way than many.
TEST(Routing, of_a_token_does_not_depend_on_others) {
  const RouterSpec spec{.n_expert = 12, .n_used = 3};
  const auto logits = random_floats(30 * spec.n_expert, 6);
  const Routed whole(spec, logits);
  for (int t = 0; t < 30; ++t) {
    const auto mine = std::span(logits).subspan(t * spec.n_expert, spec.n_expert);
    EXPECT_EQ(Routed(spec, {mine.begin(), mine.end()}).of_token(0), whole.of_token(t)) << t;
  }
}

TEST(Routing, serves_layers_of_other_sizes) {
  for (int tokens : {3, 20}) {
    Workspace workspace;
    Routing routing(workspace, 2, tokens, 8, 4);
    for (const RouterSpec& spec : {RouterSpec{.n_expert = 8, .n_used = 2}, RouterSpec{.n_expert = 5, .n_used = 4}}) {
      const auto logits = random_floats(tokens * spec.n_expert, 9);
      Routed seen;
      run_on(2, [&](const Worker& worker) {
        routing.route(worker, spec, logits.data(), tokens);
        if (worker.index() == 1) seen = Routed(routing.slots(worker));
      });
      EXPECT_EQ(seen, Routed(spec, logits));
    }
  }
}

// ---- Products.

/// Blocks: binary16 numbers of 1/16 (Q4_0 has one, Q4_K two) and random codes; else random floats.
TensorView random_tensor(const QuantType& type, int64_t rows, int64_t columns, uint32_t seed,
                         std::vector<std::byte>& data) {
  data.resize(rows * type.row_bytes(columns));
  if (type.block_elems == 1) {
    const auto values = random_floats(rows * columns, seed, 0.3f);
    std::ranges::copy(std::as_bytes(std::span(values)), data.begin());
  } else {
    std::mt19937 random(seed);
    const size_t numbers = type.block_elems == 256 ? 4 : 2;
    for (size_t i = 0; i < data.size(); ++i) {
      const size_t at = i % type.block_bytes;
      data[i] = static_cast<std::byte>(at >= numbers ? random() : at % 2 ? 0x2c : 0);
    }
  }
  TensorView view;
  view.type = &type;
  view.shape = Shape{columns, rows};
  view.data = data;
  return view;
}

/// The experts of a layer, and what they do to a step.
struct Layer {
  const KernelTable& kernels;
  int64_t n_embd, n_ff;
  Experts experts;
  std::vector<std::vector<float>> decoded[3];  // gate, up, down as floats, by expert

  Layer(const KernelTable& table, const QuantType& type, int n_expert, int64_t embd, int64_t ff)
      : kernels(table), n_embd(embd), n_ff(ff) {
    Pool pool(2);
    uint32_t seed = 20;
    for (int which = 0; which < 3; ++which)
      for (int e = 0; e < n_expert; ++e) {
        const int64_t rows = which == 2 ? embd : ff, columns = which == 2 ? ff : embd;
        std::vector<std::byte> data;
        const TensorView view = random_tensor(type, rows, columns, ++seed, data);
        auto& matrices = which == 0 ? experts.gate : which == 1 ? experts.up : experts.down;
        matrices.push_back(Matrix::pack(view, table, pool));
        std::vector<float> values(rows * columns);
        for (int64_t r = 0; r < rows; ++r) view.decode_row(r, &values[r * columns]);
        decoded[which].push_back(std::move(values));
      }
  }

  /// y += experts(x) for the tokens, as a block does it.
  std::vector<float> run(const RouterSpec& spec, std::span<const float> x, std::span<const float> logits,
                         std::span<const float> before, int threads) const {
    const int64_t tokens = std::ssize(x) / n_embd, n_slots = tokens * spec.n_used;
    Workspace workspace;
    Activations inputs(workspace, kernels, threads, n_slots, n_embd, n_embd);
    Activations inner(workspace, kernels, threads, n_slots, n_ff, 0);
    Routing routing(workspace, threads, tokens, spec.n_expert, spec.n_used);
    std::vector<float> y(before.begin(), before.end());
    std::vector<float> gate(n_slots * n_ff, kNaN), up(gate), gathered(n_slots * n_embd, kNaN),
        out(tokens * n_embd, kNaN);
    const InputForms forms = experts.gate[0].inputs();
    run_on(threads, [&](const Worker& worker) {
      routing.route(worker, spec, logits.data(), tokens);
      const Slots& slots = routing.slots(worker);
      if (tokens == 1) {
        inputs.make(worker, 1, n_embd, forms, gathered.data(), [&](int64_t, float* row) { std::ranges::copy(x, row); });
        inputs.repeat_in_groups(worker, slots.begins);
      } else {
        inputs.set_groups(worker, x.data(), n_embd, forms, slots.token, slots.begins, gathered.data());
        worker.barrier();
      }
      experts_up(worker, kernels, experts, slots, inputs, gate.data(), up.data(), forms, inner);
      worker.barrier();
      experts_down(worker, kernels, experts, slots, inner, out.data(), y.data());
    });
    return y;
  }

  /// W x in double.
  static std::vector<double> product(const std::vector<float>& w, std::span<const double> x) {
    std::vector<double> y(w.size() / x.size());
    for (size_t i = 0; i < w.size(); ++i) y[i / x.size()] += w[i] * x[i % x.size()];
    return y;
  }

  /// One token in double.
  std::vector<double> reference(const RouterSpec& spec, std::span<const float> x, std::span<const float> logits) const {
    std::vector<double> y(n_embd);
    const std::vector<double> input(x.begin(), x.end());
    for (const auto& [e, weight] : choice_reference(spec, logits)) {
      std::vector<double> g = product(decoded[0][e], input);
      const std::vector<double> u = product(decoded[1][e], input);
      for (size_t i = 0; i < g.size(); ++i) g[i] *= u[i] / (1 + std::exp(-g[i]));
      const std::vector<double> d = product(decoded[2][e], g);
      for (int64_t i = 0; i < n_embd; ++i) y[i] += weight * d[i];
    }
    return y;
  }
};

double norm(std::span<const double> values) {
  double squares = 0;
  for (double v : values) squares += v * v;
  return std::sqrt(squares);
}

class ExpertProducts : public OnEveryIsa {};

TEST_P(ExpertProducts, match_double) {
  // Widths that end within a panel, and that fill several runs of them. Inputs rounded to int8 twice are off by about
  // 1% of the norm; float products by some roundings of sums of a few hundred.
  for (const auto& [type, n_embd, n_ff, tolerance] :
       {std::tuple{"F32", 72, 20, 2e-6}, {"F32", 40, 290, 2e-6}, {"Q4_0", 96, 64, 2e-2}, {"Q4_0", 64, 320, 2e-2}}) {
    const RouterSpec spec{.n_expert = 7, .n_used = 3};
    const Layer layer(kernels(), *find_quant_type(type), spec.n_expert, n_embd, n_ff);
    const int tokens = 21;
    const auto x = random_floats(tokens * n_embd, 1), logits = random_floats(tokens * spec.n_expert, 2, 2);
    const auto before = random_floats(tokens * n_embd, 3);
    const auto y = layer.run(spec, x, logits, before, 2);
    for (int t = 0; t < tokens; ++t) {
      const auto want = layer.reference(spec, std::span(x).subspan(t * n_embd, n_embd),
                                        std::span(logits).subspan(t * spec.n_expert, spec.n_expert));
      std::vector<double> difference(n_embd);
      for (int i = 0; i < n_embd; ++i) difference[i] = double{y[t * n_embd + i]} - before[t * n_embd + i] - want[i];
      EXPECT_LT(norm(difference), tolerance * norm(want)) << type << " token " << t;
    }
  }
}

TEST_P(ExpertProducts, of_a_token_do_not_depend_on_others_or_threads) {
  // Widths of which workers round the rows that they made, or meet before that: it depends on their number.
  for (const auto& [type, n_embd, n_ff] :
       {std::tuple{"F32", 64, 96}, {"Q4_0", 64, 96}, {"Q4_0", 64, 416}, {"Q4_K", 256, 512}, {"Q4_K", 256, 2048}}) {
    const RouterSpec spec{.n_expert = 5, .n_used = 2};
    const int tokens = 40;
    const Layer layer(kernels(), *find_quant_type(type), spec.n_expert, n_embd, n_ff);
    const auto x = random_floats(tokens * n_embd, 1), before = random_floats(tokens * n_embd, 3);
    auto logits = random_floats(tokens * spec.n_expert, 2);
    for (int t = 0; t < tokens; ++t) logits[t * spec.n_expert + 1] += 2;  // many at one expert
    const auto whole = layer.run(spec, x, logits, before, 1);
    for (int threads : {2, 3, 7}) EXPECT_EQ(layer.run(spec, x, logits, before, threads), whole) << type << threads;
    for (int piece : {1, 3, 17}) {
      std::vector<float> y;
      for (int t = 0; t < tokens; t += piece) {
        const int n = std::min(piece, tokens - t);
        const auto part = layer.run(spec, std::span(x).subspan(t * n_embd, n * n_embd),
                                    std::span(logits).subspan(t * spec.n_expert, n * spec.n_expert),
                                    std::span(before).subspan(t * n_embd, n * n_embd), 2);
        y.insert(y.end(), part.begin(), part.end());
      }
      EXPECT_EQ(y, whole) << type << " in pieces of " << piece;
    }
  }
}

TEST_P(ExpertProducts, are_the_same_where_weights_are_taken_apart_for_many_tiles) {
  const std::vector<KernelTable> tables = table_ways(GetParam());
  if (tables.size() < 2) GTEST_SKIP() << "this level takes none apart";
  for (const auto& [type, n_embd, n_ff] : {std::tuple{"Q4_0", 96, 416}, {"Q4_K", 256, 512}}) {
    const RouterSpec spec{.n_expert = 4, .n_used = 2};
    const int tokens = 80;
    const Layer plain(tables[0], *find_quant_type(type), spec.n_expert, n_embd, n_ff);
    const Layer unpacked(tables[1], *find_quant_type(type), spec.n_expert, n_embd, n_ff);
    const auto x = random_floats(tokens * n_embd, 1), before = random_floats(tokens * n_embd, 3);
    auto logits = random_floats(tokens * spec.n_expert, 2);
    for (int t = 0; t < tokens; ++t) logits[t * spec.n_expert + 2] += 20;  // all of them at one that is not the first
    for (int threads : {1, 3})
      EXPECT_EQ(unpacked.run(spec, x, logits, before, threads), plain.run(spec, x, logits, before, threads)) << type;
  }
}

TEST_P(ExpertProducts, of_no_tokens_are_no_work) {
  const Layer layer(kernels(), *find_quant_type("Q4_0"), 3, 64, 32);
  EXPECT_TRUE(layer.run({.n_expert = 3, .n_used = 2}, {}, {}, {}, 2).empty());
}

QUERN_ON_EVERY_ISA(ExpertProducts);

}  // namespace
}  // namespace quern
