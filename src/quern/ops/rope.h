// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"

namespace quern {

/// Which elements of the first `2 * inv_freq.size()` of a head are rotated together.
enum class RopePairs : uint8_t {
  interleaved,  ///< (2i, 2i + 1)
  halves,       ///< (i, i + d/2)
};

/// Rotary embedding: angle of pair i at position p is p * inv_freq[i]; cos and sin are multiplied by `magnitude`.
struct Rope {
  RopePairs pairs = RopePairs::halves;
  std::vector<double> inv_freq;  ///< d/2 of them; the rest of a head passes unchanged
  float magnitude = 1;
};

// Frequencies. d: rotated dimensions. Sources: docs/models.md; Llama 3.1 and YaRN (arXiv 2309.00071) as their makers'
// code has it.
std::vector<double> rope_frequencies(int d, double base);
struct Llama3Scaling {
  double factor, low_freq_factor, high_freq_factor, original_context;
};
void scale_llama3(std::vector<double>& inv_freq, const Llama3Scaling& s);
struct YarnScaling {
  double factor, original_context, beta_fast = 32, beta_slow = 1;
  bool truncate = true;
};
void scale_yarn(std::vector<double>& inv_freq, double base, const YarnScaling& s);

/// cos and sin for the tokens of a step: [tokens, 2, d/2]. Workers split the tokens.
void rope_table(const Worker& worker, const Rope& rope, std::span<const int64_t> positions, float* table);

/// Rotates one head of token t in place.
void turn(const KernelTable& kernels, const Rope& rope, const float* table, float* head, int64_t t);

}  // namespace quern
