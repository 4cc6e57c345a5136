// SPDX-License-Identifier: Apache-2.0
// Qwen 3.5 and later, dense: three layers of gated delta net to one of gated attention. config.json stores the weights
// of the norms around zero (but not of the one behind the delta rule) and log A where GGUF stores -A, and orders the
// value heads by key head where GGUF deals them round. Text turns plainly under multimodal rope: its three positions
// are equal.
#include "quern/model/arch/qwen35.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"qwen3_5_text", "qwen3_5"};
constexpr TensorName kFfnNorm = {"blk.{}.post_attention_norm.weight",
                                 "model.layers.{}.post_attention_layernorm.weight"};

Result<DeltaNetSpec> read_delta_net(const ModelSource& source, const ModelSizes& sizes) {
  constexpr Key kKeyHeads = {"ssm.group_count", "linear_num_key_heads"},
                kValueHeads = {"ssm.time_step_rank", "linear_num_value_heads"};
  constexpr Key kInner = {"ssm.inner_size", ""};
  QUERN_TRY(const int64_t key_heads, source.integer(kKeyHeads, 1, 1 << 12));
  QUERN_TRY(const int64_t value_heads, source.integer(kValueHeads, 1, 1 << 12));
  if (value_heads % key_heads)
    return make_error(ErrorCode::corrupt_data, "{}: expected a multiple of the {} key heads, found {}",
                      source.name(kValueHeads), key_heads, value_heads);
  QUERN_TRY(const int64_t key_width, source.integer({"ssm.state_size", "linear_key_head_dim"}, 1, 1 << 12));
  int64_t value_width = 0;
  if (source.is_gguf()) {
    QUERN_TRY(const int64_t inner, source.integer(kInner, 1, 1 << 24));
    if (inner % value_heads)
      return make_error(ErrorCode::corrupt_data, "{}: expected a multiple of the {} value heads, found {}",
                        source.name(kInner), value_heads, inner);
    value_width = inner / value_heads;
  } else {
    QUERN_TRY(value_width, source.integer({"", "linear_value_head_dim"}, 1, 1 << 12));
  }
  QUERN_TRY(const int64_t kernel, source.integer({"ssm.conv_kernel", "linear_conv_kernel_dim"}, 2, 64));
  return DeltaNetSpec{.n_embd = sizes.n_embd,
                      .key_heads = static_cast<int>(key_heads),
                      .value_heads = static_cast<int>(value_heads),
                      .key_width = static_cast<int>(key_width),
                      .value_width = static_cast<int>(value_width),
                      .conv_kernel = static_cast<int>(kernel),
                      .eps = sizes.eps,
                      .norm_offset = source.is_gguf() ? 0.f : 1.f,
                      .interleaved_heads = source.is_gguf(),
                      .log_decay = !source.is_gguf()};
}

/// Which layers are linear: said layer by layer, or every one but each `full_attention_interval`-th.
Result<std::vector<bool>> read_pattern(const ModelSource& source, int n_layer) {
  std::vector<bool> linear(n_layer);
  if (const Json* types = source.config("layer_types")) {
    if (!types->is_array() || static_cast<int>(types->array().size()) < n_layer)
      return make_error(ErrorCode::corrupt_data, "config.json: layer_types: expected a list of {}", n_layer);
    for (int i = 0; i < n_layer; ++i) linear[i] = types->array()[i] == Json("linear_attention");
    return linear;
  }
  const Key recurrent{"attention.recurrent_layers", ""};
  if (source.has(recurrent)) {
    QUERN_TRY(const auto flags, source.integers(recurrent, n_layer, 0, 1));
    for (int i = 0; i < n_layer; ++i) linear[i] = flags[i] != 0;
    return linear;
  }
  QUERN_TRY(const int64_t interval,
            source.integer({"full_attention_interval", "full_attention_interval"}, 1, 1 << 12, 4));
  for (int i = 0; i < n_layer; ++i) linear[i] = (i + 1) % interval != 0;
  return linear;
}

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY(DecoderSpec spec, read_decoder(source, kQwen35Rope));
  QUERN_TRY_STATUS(shape_qwen35(source, spec));
  return load_decoder(std::move(spec), source, context);
}

/// The decay of a tiny model must be one.
constexpr TinyModel::Values kTinyValues[] = {{"ssm_a", -2.f, -0.1f}};

}  // namespace

Status shape_qwen35(const ModelSource& source, DecoderSpec& spec) {
  QUERN_TRY(const DeltaNetSpec delta_net, read_delta_net(source, spec.sizes));
  QUERN_TRY(const std::vector<bool> linear, read_pattern(source, spec.sizes.n_layer));
  spec.norm_offset = delta_net.norm_offset;
  for (int i = 0; i < spec.sizes.n_layer; ++i) {
    if (linear[i]) spec.delta_nets[i] = delta_net;
    AttentionSpec& attention = spec.attention[i];
    if (attention.key_width != attention.value_width)
      return make_error(ErrorCode::unsupported, "{}: expected the {} of the keys, found {}",
                        source.name(Key{"attention.value_length", "head_dim"}), attention.key_width,
                        attention.value_width);
    attention.qk_norm = attention.gated = true;
    attention.norm_offset = spec.norm_offset;
    std::visit(
        [&](auto& ffn) {
          ffn.norm = kFfnNorm;
          ffn.norm_offset = spec.norm_offset;
        },
        spec.ffn[i]);
  }
  return {};
}

extern const Architecture arch_qwen35;
const Architecture arch_qwen35 = {
    .name = "qwen35",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 4, "context_length": 512, "embedding_length": 64, "feed_forward_length": 100,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 32, "attention.value_length": 32,
        "rope.dimension_count": 8, "rope.freq_base": 10000000.0, "attention.layer_norm_rms_epsilon": 1e-6,
        "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.time_step_rank": 6, "ssm.inner_size": 96,
        "full_attention_interval": 4, "vocab_size": 324})",
             .values = kTinyValues},
};

}  // namespace quern
