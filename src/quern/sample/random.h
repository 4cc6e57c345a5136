// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace quern {

/// Uniform random numbers that are the same on every machine and compiler: xoshiro256** (Blackman and Vigna, 2018), its
/// state filled from the seed by splitmix64. Not for secrets.
class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t next();

  /// In [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_[4];
};

}  // namespace quern
