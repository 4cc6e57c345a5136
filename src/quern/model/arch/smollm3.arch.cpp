// SPDX-License-Identifier: Apache-2.0
// SmolLM 3: the plain decoder in which every fourth layer leaves positions out (no rope: arXiv 2501.18795). Converters
// to GGUF reorder the rows of q and k as they do for llama.
#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"smollm3"};

/// By layer, 1 where positions are rotated. config.json lists it or gives the interval; GGUF has neither: every fourth
/// is without.
Result<std::vector<int64_t>> read_rotated(const ModelSource& source, int n_layer) {
  const Key list{"", "no_rope_layers"};
  if (source.has(list)) return source.integers(list, n_layer, 0, 1);
  QUERN_TRY(const int64_t interval, source.integer({"", "no_rope_layer_interval"}, 1, int64_t{1} << 20, 4));
  std::vector<int64_t> rotated(n_layer, 1);
  for (int64_t layer = interval - 1; layer < n_layer; layer += interval) rotated[layer] = 0;
  return rotated;
}

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec,
            read_decoder(source, {.pairs = source.is_gguf() ? RopePairs::interleaved : RopePairs::halves}));
  QUERN_TRY(const std::vector<int64_t> rotated, read_rotated(source, spec.sizes.n_layer));
  QUERN_TRY(const Presence attention_bias, bias_presence(source, "attention_bias"));
  QUERN_TRY(const Presence mlp_bias, bias_presence(source, "mlp_bias"));
  for (int i = 0; i < spec.sizes.n_layer; ++i) {
    AttentionSpec& layer = spec.attention[i];
    layer.qkv_bias = layer.output_bias = attention_bias;
    if (!rotated[i]) layer.rope.reset();
    std::get<FfnSpec>(spec.ffn[i]).bias = mlp_bias;
  }
  QUERN_TRY_STATUS(read_windows(source, spec.attention));
  return load_decoder(std::move(spec), source, context);
}

}  // namespace

extern const Architecture arch_smollm3;
const Architecture arch_smollm3 = {
    .name = "smollm3",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 5, "context_length": 512, "embedding_length": 72, "feed_forward_length": 108,
        "attention.head_count": 6, "attention.head_count_kv": 2, "rope.dimension_count": 12, "rope.freq_base": 2000000.0,
        "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": 346})",
             .values = {}},
};

}  // namespace quern
