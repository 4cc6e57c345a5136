// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/model/blocks/decoder.h"

namespace quern {

// What Qwen 3.5's dense models and its mixtures of experts share.

inline constexpr RopeDefaults kQwen35Rope = {.base = 1e7, .partial = 0.25};

/// Delta nets in the layers that have one, gates, norms of heads, and norms as the container stores them, in a decoder
/// that the standard keys have filled.
Status shape_qwen35(const ModelSource& source, DecoderSpec& spec);

}  // namespace quern
