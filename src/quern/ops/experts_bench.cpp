// SPDX-License-Identifier: Apache-2.0
// A layer of experts beside one matrix of as many products: what choosing, sorting, small groups and adding up cost.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "quern/ops/experts.h"

namespace quern {
namespace {

// A 30B model of 128 experts.
constexpr RouterSpec kRouter = {.n_expert = 128, .n_used = 8};
constexpr int64_t kEmbd = 2048, kFf = 768;

Matrix random_matrix(int64_t rows, int64_t columns, const KernelTable& kernels, Pool& pool) {
  const QuantType& type = *find_quant_type("Q4_K");
  std::mt19937 random(1);
  std::vector<std::byte> data(rows * type.row_bytes(columns));
  for (size_t i = 0; i < data.size(); ++i) {
    const size_t at = i % type.block_bytes;  // binary16 scale and minimum of 2^-9 first
    data[i] = static_cast<std::byte>(at >= 4 ? random() : at % 2 ? 0x18 : 0);
  }
  TensorView view;
  view.type = &type;
  view.shape = Shape{columns, rows};
  view.data = data;
  return Matrix::pack(view, kernels, pool);
}

std::vector<float> normal_floats(int64_t n) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& v : out) v = normal(random);
  return out;
}

void set_rate(benchmark::State& state, double products) {
  state.counters["MAC/s"] = benchmark::Counter(products, benchmark::Counter::kIsIterationInvariantRate);
}

void layer(benchmark::State& state, int64_t tokens, int threads) {
  const KernelTable& kernels = kernel_table(best_isa());
  Pool pool(threads);
  Experts experts;
  for (int e = 0; e < kRouter.n_expert; ++e) {
    experts.gate.push_back(random_matrix(kFf, kEmbd, kernels, pool));
    experts.up.push_back(random_matrix(kFf, kEmbd, kernels, pool));
    experts.down.push_back(random_matrix(kEmbd, kFf, kernels, pool));
  }
  const int64_t n_slots = tokens * kRouter.n_used;
  const auto x = normal_floats(tokens * kEmbd), logits = normal_floats(16 * tokens * kRouter.n_expert);
  std::vector<float> y(tokens * kEmbd), gate(n_slots * kFf), up(gate), out(tokens * kEmbd);
  Workspace workspace;
  Activations inputs(workspace, kernels, pool.size(), n_slots, kEmbd, kEmbd);
  Activations inner(workspace, kernels, pool.size(), n_slots, kFf, 0);
  Routing routing(workspace, threads, tokens, kRouter.n_expert, kRouter.n_used);
  const InputForms forms = experts.gate[0].inputs();
  int64_t step = 0;
  for (auto _ : state) {
    // Other experts in every step, as in every layer: they come from memory.
    const float* from = logits.data() + step++ % 16 * tokens * kRouter.n_expert;
    pool.run([&](const Worker& worker) {
      routing.route(worker, kRouter, from, tokens);
      const Slots& slots = routing.slots(worker);
      if (tokens == 1) {
        inputs.make(worker, 1, kEmbd, forms, nullptr, [&](int64_t, float* row) { std::copy_n(x.data(), kEmbd, row); });
        inputs.repeat_in_groups(worker, slots.begins);
      } else {
        inputs.set_groups(worker, x.data(), kEmbd, forms, slots.token, slots.begins, nullptr);
        worker.barrier();
      }
      experts_up(worker, kernels, experts, slots, inputs, gate.data(), up.data(), forms, inner);
      worker.barrier();
      experts_down(worker, kernels, experts, slots, inner, out.data(), y.data());
    });
    benchmark::DoNotOptimize(y.data());
  }
  set_rate(state, 3.0 * kEmbd * kFf * static_cast<double>(n_slots));
  int64_t bytes = 0;
  for (const auto* matrices : {&experts.gate, &experts.up, &experts.down}) bytes += (*matrices)[0].bytes();
  state.counters["B/s"] = benchmark::Counter(static_cast<double>(std::min<int64_t>(n_slots, kRouter.n_expert) * bytes),
                                             benchmark::Counter::kIsIterationInvariantRate);
}

/// As wide as all experts of a token together.
void dense(benchmark::State& state, int64_t tokens, int threads) {
  const KernelTable& kernels = kernel_table(best_isa());
  Pool pool(threads);
  const Matrix matrix = random_matrix(kRouter.n_used * kFf, kEmbd, kernels, pool);
  const auto x = normal_floats(tokens * kEmbd);
  std::vector<float> y(tokens * matrix.rows());
  Workspace workspace;
  Activations inputs(workspace, kernels, pool.size(), tokens, kEmbd, 0);
  for (auto _ : state) {
    pool.run([&](const Worker& worker) {
      inputs.set(worker, x.data(), tokens, kEmbd, matrix.inputs());
      worker.barrier();
      matmul(worker, MatmulJob{&matrix, nullptr, y.data(), matrix.rows()}, inputs);
    });
    benchmark::DoNotOptimize(y.data());
  }
  set_rate(state, static_cast<double>(matrix.rows() * kEmbd * tokens));
}

[[maybe_unused]] const bool registered = [] {
  for (int tokens : {1, 4, 8, 64, 512})
    for (int threads : {1, 2}) {
      const std::string size = "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
      benchmark::RegisterBenchmark(("experts/Q4_K" + size).c_str(), layer, tokens, threads)->UseRealTime();
      benchmark::RegisterBenchmark(("experts_as_one/Q4_K" + size).c_str(), dense, tokens, threads)->UseRealTime();
    }
  return true;
}();

}  // namespace
}  // namespace quern
