// SPDX-License-Identifier: Apache-2.0
// Qwen 3, dense: the plain decoder with a norm over each head of q and k. Head widths are explicit.
#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"qwen3"};

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec, read_decoder(source, {.pairs = RopePairs::halves}));
  QUERN_TRY(const Presence bias, bias_presence(source, "attention_bias"));
  for (AttentionSpec& layer : spec.attention) {
    layer.qk_norm = true;
    layer.qkv_bias = layer.output_bias = bias;
  }
  QUERN_TRY_STATUS(read_windows(source, spec.attention));
  return load_decoder(std::move(spec), source, context);
}

}  // namespace

extern const Architecture arch_qwen3;
const Architecture arch_qwen3 = {
    .name = "qwen3",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 3, "context_length": 512, "embedding_length": 72, "feed_forward_length": 132,
        "attention.head_count": 5, "attention.head_count_kv": 1, "attention.key_length": 24, "attention.value_length": 24,
        "rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": 337})",
             .values = {}},
};

}  // namespace quern
