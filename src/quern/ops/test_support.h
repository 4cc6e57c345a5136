// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tests of this folder share.

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"

namespace quern {

/// The kernels of a level in all ways it has, whatever is faster here: plain; with weights taken apart for many tiles;
/// with two streams. The two last where the level has them.
inline std::vector<KernelTable> table_ways(Isa isa) {
  KernelTable plain = kernel_table(isa);
  plain.matmul = &matmul_kernels(isa);
  plain.unpacked = nullptr;
  std::vector<KernelTable> ways = {plain};
  if (const UnpackedKernels* kernels = unpacked_kernels(isa)) ways.emplace_back(plain).unpacked = kernels;
  if (const MatmulKernels* kernels = two_stream_matmul_kernels(isa)) ways.emplace_back(plain).matmul = kernels;
  return ways;
}

/// Runs its tests once per level that this machine has.
class OnEveryIsa : public testing::TestWithParam<Isa> {
 protected:
  const KernelTable& kernels() const { return kernel_table(GetParam()); }
};

inline std::string isa_test_name(const testing::TestParamInfo<Isa>& info) {
  std::string name(isa_name(info.param));
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
}

#define QUERN_ON_EVERY_ISA(fixture) \
  INSTANTIATE_TEST_SUITE_P(Isa, fixture, testing::ValuesIn(usable_isas()), isa_test_name)

/// Runs `op` on every worker of a fresh pool.
template <typename Op>
void run_on(int threads, Op&& op) {
  Pool pool(threads);
  pool.run(op);
}

/// Normal numbers of that spread; the same for the same seed, everywhere.
inline std::vector<float> random_floats(int64_t n, uint32_t seed, float spread = 1) {
  std::mt19937 bits(seed);
  std::vector<float> out(n);
  for (float& x : out) {
    // A sum of twelve uniform numbers: std::normal_distribution differs between libraries.
    double total = -6;
    for (int i = 0; i < 12; ++i) total += bits() * 0x1p-32;
    x = static_cast<float>(total * spread);
  }
  return out;
}

}  // namespace quern
