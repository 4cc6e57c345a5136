// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "quern/ops/matmul.h"

namespace quern {
namespace {

/// Weights of ordinary size: scales cannot be drawn blindly, so blocks are drawn until their values are.
std::vector<std::byte> random_rows(const QuantType& type, int64_t rows, int64_t columns) {
  std::mt19937 random(1);
  std::vector<std::byte> data(rows * type.row_bytes(columns));
  std::vector<float> values(type.block_elems);
  // A few hundred different blocks, repeated: drawing millions would take longer than the measurement.
  const size_t different = std::min<size_t>(data.size(), 251 * static_cast<size_t>(type.block_bytes));
  for (size_t at = 0; at < data.size(); at += type.block_bytes) {
    if (at >= different) {
      std::copy_n(data.begin() + at % different / type.block_bytes * type.block_bytes, type.block_bytes,
                  data.begin() + at);
      continue;
    }
    bool ordinary = false;
    while (!ordinary) {
      for (int i = 0; i < type.block_bytes; ++i) data[at + i] = static_cast<std::byte>(random());
      type.decode(&data[at], values.data(), 1);
      ordinary = true;
      float largest = 0;
      for (float v : values) {
        ordinary &= v > -16 && v < 16;
        largest = std::max(largest, v);
      }
      ordinary &= largest > 0x1p-6f;
    }
  }
  return data;
}

/// rows x columns, tokens, threads: how fast weights are read and products made. Matrices smaller than the caches are
/// repeated under other addresses until they are not, as the layers of a model are.
void multiply(benchmark::State& state, const QuantType& type, Isa isa, int64_t rows, int64_t columns, int64_t tokens,
              int threads) {
  const KernelTable& kernels = kernel_table(isa);
  Pool pool(threads);
  const std::vector<std::byte> data = random_rows(type, rows, columns);
  TensorView view;
  view.type = &type;
  view.shape = Shape{columns, rows};
  view.data = data;
  std::vector<Matrix> layers;
  int64_t bytes = 0;
  do {
    layers.push_back(Matrix::pack(view, kernels, pool));
    bytes += layers.back().bytes();
  } while (tokens <= 8 && bytes < 160 << 20);

  std::vector<float> x(tokens * columns), y(tokens * rows);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& v : x) v = normal(random);
  Workspace workspace;
  Activations inputs(workspace, kernels, pool.size(), tokens, columns, 0);
  for (auto _ : state) {
    pool.run([&](const Worker& worker) {
      inputs.set(worker, x.data(), tokens, columns, layers[0].inputs());
      for (const Matrix& m : layers) {
        worker.barrier();
        matmul(worker, MatmulJob{&m, nullptr, y.data(), rows}, inputs);
      }
    });
    benchmark::DoNotOptimize(y.data());
  }
  const double products = static_cast<double>(rows) * columns * tokens * layers.size();
  using benchmark::Counter;
  state.counters["MAC/s"] = Counter(products, Counter::kIsIterationInvariantRate);
  state.counters["B/s"] = Counter(static_cast<double>(bytes), Counter::kIsIterationInvariantRate, Counter::kIs1000);
}

/// What memory gives when it is only read: the limit of decoding.
void read_memory(benchmark::State& state, int threads) {
  constexpr int64_t kWords = 160 << 17;
  const WeightMemory memory(kWords * 8);
  uint64_t* const words = reinterpret_cast<uint64_t*>(memory.data());
  Pool pool(threads);
  pool.run([&](const Worker& worker) {
    const auto [begin, end] = worker.share(kWords);
    for (int64_t i = begin; i < end; ++i) words[i] = i;
  });
  std::vector<uint64_t> sums(threads * 8);
  for (auto _ : state)
    pool.run([&](const Worker& worker) {
      const auto [begin, end] = worker.share(kWords, 8);
      uint64_t sum[8] = {};
      for (int64_t i = begin; i < end; i += 8)
        for (int j = 0; j < 8; ++j) sum[j] += words[i + j];
      for (int j = 0; j < 8; ++j) sums[worker.index() * 8 + j] = sum[j];
    });
  benchmark::DoNotOptimize(sums.data());
  state.counters["B/s"] = benchmark::Counter(kWords * 8.0, benchmark::Counter::kIsIterationInvariantRate);
}

void round_inputs(benchmark::State& state, Isa isa, InputForm form) {
  constexpr int64_t kColumns = 4096, kTokens = 8;
  const KernelTable& kernels = kernel_table(isa);
  const std::vector<float> x(kTokens * kColumns, 0.5f);
  Workspace workspace;
  Pool pool(1);
  Activations inputs(workspace, kernels, pool.size(), kTokens, kColumns, 0);
  InputForms forms;
  forms.wanted[static_cast<int>(form)] = true;
  for (auto _ : state) pool.run([&](const Worker& worker) { inputs.set(worker, x.data(), kTokens, kColumns, forms); });
  state.counters["elements/s"] = benchmark::Counter(kColumns * kTokens, benchmark::Counter::kIsIterationInvariantRate);
}

[[maybe_unused]] const bool registered = [] {
  for (int threads : {1, 2})
    benchmark::RegisterBenchmark(("read/threads:" + std::to_string(threads)).c_str(), read_memory, threads)
        ->UseRealTime();
  for (Isa isa : usable_isas()) {
    for (InputForm form : {InputForm::per_32, InputForm::per_128}) {
      const std::string name = "round/" + std::string(isa_name(isa)) + "/" + std::to_string(input_columns(form));
      benchmark::RegisterBenchmark(name.c_str(), round_inputs, isa, form)->UseRealTime();
    }
    for (int i = 0; i < quant_table_size; ++i)
      for (const auto& [rows, columns] : {std::pair{1536, 576}, std::pair{576, 1536}, std::pair{4096, 4096}})
        for (int tokens : {1, 2, 4, 8, 32, 512})
          for (int threads : {1, 2}) {
            if (columns % quant_table[i]->block_elems) continue;
            const std::string name = std::string(quant_table[i]->name) + "/" + std::string(isa_name(isa)) + "/" +
                                     std::to_string(rows) + "x" + std::to_string(columns) +
                                     "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
            benchmark::RegisterBenchmark(name.c_str(), multiply, *quant_table[i], isa, rows, columns, tokens, threads)
                ->UseRealTime();
          }
  }
  return true;
}();

}  // namespace
}  // namespace quern
