// SPDX-License-Identifier: Apache-2.0
// Qwen 1.5, 2 and 2.5, QwQ, R1 distilled into them: the plain decoder with biases on q, k and v.
#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"qwen2"};

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec, read_decoder(source, {.pairs = RopePairs::halves}));
  for (AttentionSpec& layer : spec.attention) layer.qkv_bias = Presence::required;
  QUERN_TRY_STATUS(read_windows(source, spec.attention));
  return load_decoder(std::move(spec), source, context);
}

}  // namespace

extern const Architecture arch_qwen2;
const Architecture arch_qwen2 = {
    .name = "qwen2",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 2, "context_length": 512, "embedding_length": 84, "feed_forward_length": 160,
        "attention.head_count": 7, "attention.head_count_kv": 1, "rope.freq_base": 1000000.0, "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 40,
        "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": 339})",
             .values = {}},
};

}  // namespace quern
