// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace quern {

// Passes over all logits of a vocabulary. NaN counts as -infinity. No result depends on the machine or on its
// instruction set.

/// Logits are looked at in groups of 4 columns of 16; element e of a group belongs to column e mod 4. (Four: one vector
/// on every machine, and a column lies in few cache lines.)
inline constexpr size_t kLogitColumns = 4, kLogitRows = 16, kLogitGroup = kLogitColumns * kLogitRows;
constexpr size_t logit_groups(size_t n) { return (n + kLogitGroup - 1) / kLogitGroup; }

/// The largest logit of each column, group by group; -infinity where a column has none. `maxima` has room for 4 floats
/// per (begun) group.
void column_maxima(std::span<const float> logits, std::span<float> maxima);
/// The largest of all; -infinity where there is none.
float largest(std::span<const float> logits);

/// The sum of exp((logit - top) / t) over all logits below `top`, which is finite. One too small for the precision
/// counts as 2^-100 (quick) or 2^-1000.
struct WeightSums {
  std::string_view level;  ///< of instructions: "baseline", "avx2", "avx512"; the sums are the same bits at each
  /// In single precision, t in [1e-3, 1e3]; `quick_weights_error` tells how far off it can be.
  double (*quick)(std::span<const float> logits, float top, double t);
  /// In double precision: off by the rounding of a few last bits.
  double (*exact)(std::span<const float> logits, float top, double t);
};
/// For the levels that this machine can run, the fastest last.
std::span<const WeightSums> weight_sums();
inline const WeightSums& fastest_sums() { return weight_sums().back(); }

/// The most that a quick sum over n logits can be off, relative to it.
double quick_weights_error(double sum, size_t n);

}  // namespace quern
