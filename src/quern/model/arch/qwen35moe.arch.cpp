// SPDX-License-Identifier: Apache-2.0
// Qwen 3.5 and later, mixtures of experts: the layers of the dense models, with experts and a gated one for all tokens.
#include "quern/model/arch/qwen35.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"qwen3_5_moe_text", "qwen3_5_moe"};

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec, read_moe_decoder(source, kQwen35Rope));
  QUERN_TRY_STATUS(shape_qwen35(source, spec));
  constexpr Key kShared = {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"};
  QUERN_TRY(const int64_t n_ff_shared, source.integer(kShared, 1, 1 << 24));
  for (FeedForwardSpec& layer : spec.ffn) std::get<MoeSpec>(layer).n_ff_shared = n_ff_shared;
  return load_decoder(std::move(spec), source, context);
}

/// The decay of a tiny model must be one.
constexpr TinyModel::Values kTinyValues[] = {{"ssm_a", -2.f, -0.1f}};

}  // namespace

extern const Architecture arch_qwen35moe;
const Architecture arch_qwen35moe = {
    .name = "qwen35moe",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 4, "context_length": 512, "embedding_length": 64,
        "expert_count": 7, "expert_used_count": 3, "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 28,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 32, "attention.value_length": 32,
        "rope.dimension_count": 8, "rope.freq_base": 10000000.0, "attention.layer_norm_rms_epsilon": 1e-6,
        "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.time_step_rank": 6, "ssm.inner_size": 96,
        "full_attention_interval": 4, "vocab_size": 323})",
             .values = kTinyValues},
};

}  // namespace quern
