// SPDX-License-Identifier: Apache-2.0
// Qwen 3, mixtures of experts: the layers of the dense models with experts, all of them or, where config.json says so,
// some. config.json has a flag for weights that add up to 1; for GGUF they do.
#include <algorithm>

#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"qwen3_moe"};

/// By layer, whether it is dense: those listed, and all but every n-th.
Result<std::vector<bool>> read_dense(const ModelSource& source, int n_layer) {
  QUERN_TRY(const int64_t step, source.integer({"", "decoder_sparse_step"}, 1, int64_t{1} << 20, 1));
  const Json* listed = source.config("mlp_only_layers");
  if (listed && !listed->is_array())
    return make_error(ErrorCode::corrupt_data, "config.json: mlp_only_layers: expected a list, found {}",
                      listed->dump().substr(0, 60));
  std::vector<bool> dense(n_layer);
  for (int i = 0; i < n_layer; ++i)
    dense[i] = (i + 1) % step != 0 || (listed && std::ranges::find(listed->array(), Json(i)) != listed->array().end());
  return dense;
}

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec, read_moe_decoder(source, {.pairs = RopePairs::halves}));
  QUERN_TRY(const Presence bias, bias_presence(source, "attention_bias"));
  QUERN_TRY(const bool normalised, source.boolean({"", "norm_topk_prob"}, source.is_gguf()));
  QUERN_TRY(const std::vector<bool> dense, read_dense(source, spec.sizes.n_layer));
  for (AttentionSpec& layer : spec.attention) {
    layer.qk_norm = true;
    layer.qkv_bias = layer.output_bias = bias;
  }
  for (FeedForwardSpec& layer : spec.ffn) std::get<MoeSpec>(layer).router.normalised = normalised;
  if (std::ranges::find(dense, true) != dense.end()) {
    QUERN_TRY(const std::vector<FeedForwardSpec> ffn, read_ffn(source, spec.sizes));
    for (int i = 0; i < spec.sizes.n_layer; ++i)
      if (dense[i]) spec.ffn[i] = ffn[i];
  }
  QUERN_TRY_STATUS(read_windows(source, spec.attention));
  return load_decoder(std::move(spec), source, context);
}

}  // namespace

extern const Architecture arch_qwen3moe;
const Architecture arch_qwen3moe = {
    .name = "qwen3moe",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 3, "context_length": 512, "embedding_length": 64,
        "expert_count": 9, "expert_used_count": 3, "expert_feed_forward_length": 32,
        "attention.head_count": 6, "attention.head_count_kv": 2, "attention.key_length": 12, "attention.value_length": 12,
        "rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": 329})",
             .values = {}},
};

}  // namespace quern
