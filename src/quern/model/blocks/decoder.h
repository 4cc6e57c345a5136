// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <variant>
#include <vector>

#include "quern/base/result.h"
#include "quern/model/architecture.h"
#include "quern/model/blocks/attention_block.h"
#include "quern/model/blocks/delta_net_block.h"
#include "quern/model/blocks/ffn_block.h"
#include "quern/model/blocks/moe_block.h"
#include "quern/model/blocks/rope_config.h"

namespace quern {

/// Sizes that every family has, read and checked before anything is allocated.
struct ModelSizes {
  int n_layer = 0;
  int64_t n_embd = 0, n_vocab = 0, context_length = 0;
  float eps = 0;
};
Result<ModelSizes> read_sizes(const ModelSource& source);

/// Attention heads of every layer as the standard keys give them: grouped evenly, widths explicit or n_embd / n_head.
Result<std::vector<AttentionSpec>> read_attention(const ModelSource& source, const ModelSizes& sizes);
/// A dense feed-forward part, or a mixture of experts.
using FeedForwardSpec = std::variant<FfnSpec, MoeSpec>;
/// Dense in every layer.
Result<std::vector<FeedForwardSpec>> read_ffn(const ModelSource& source, const ModelSizes& sizes);
/// The same mixture in every layer, without a shared expert.
Result<std::vector<FeedForwardSpec>> read_moe(const ModelSource& source, const ModelSizes& sizes);

/// The windows of the families of config.json that switch them with `use_sliding_window`: `layer_types` says which
/// layers have one, in older files all from `max_window_layers` on. GGUF has none of these keys: no windows.
Status read_windows(const ModelSource& source, std::vector<AttentionSpec>& layers);

/// config.json's `hidden_act` must be SiLU.
Status expect_silu(const ModelSource& source);

/// Whether a kind of bias must be there: where a flag of config.json says so; otherwise it may.
Result<Presence> bias_presence(const ModelSource& source, std::string_view hf_flag);

/// A decoder as data: in every layer a mixer of tokens (attention, or a gated delta net in its place) and a
/// feed-forward part. A family that is no more than this fills one in and needs no code of its own.
struct DecoderSpec {
  ModelSizes sizes;
  float norm_offset = 0;  ///< added to the weights of the last norm; the layers' have their own
  std::vector<Rope> ropes;
  std::vector<AttentionSpec> attention;    ///< by layer
  std::map<int, DeltaNetSpec> delta_nets;  ///< by layer: in place of its attention
  std::vector<FeedForwardSpec> ffn;        ///< by layer
};

/// Sizes, heads, feed-forward parts and one rope for all layers, from the standard keys of either container.
Result<DecoderSpec> read_decoder(const ModelSource& source, const RopeDefaults& rope);
/// The same with `read_moe`.
Result<DecoderSpec> read_moe_decoder(const ModelSource& source, const RopeDefaults& rope);

/// A rope wider than the heads of a layer that it turns is an error.
Result<std::unique_ptr<Model>> load_decoder(DecoderSpec spec, const ModelSource& source, const LoadContext& context);

}  // namespace quern
