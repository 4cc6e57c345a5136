// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/result.h"
#include "quern/model/source.h"
#include "quern/ops/rope.h"

namespace quern {

struct RopeDefaults {
  RopePairs pairs = RopePairs::halves;
  double base = 10000;  ///< where the file names none
  double partial = 1;   ///< share of a head that turns, where config.json names none
};

/// The rotary embedding of a model: base, rotated dimensions (at most `head_width`, which is one layer's: load_decoder
/// checks the others') and scaling of either container.
/// GGUF: rope.freq_base, rope.dimension_count, rope.scaling.* (none, linear, yarn) and the divisors rope_freqs.weight.
/// config.json: rope_parameters, or rope_theta and rope_scaling of older files (default, linear, llama3, yarn,
/// dynamic). What the two mean, and where they differ: docs/models.md.
Result<Rope> read_rope(const ModelSource& source, int head_width, const RopeDefaults& defaults);

}  // namespace quern
