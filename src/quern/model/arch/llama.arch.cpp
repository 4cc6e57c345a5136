// SPDX-License-Identifier: Apache-2.0
// Llama 1 to 3.3 and the many models of the same shape (SmolLM2, Yi, DeepSeek-LLM, ...), Mistral with its window.
// The plain decoder. Converters to GGUF reorder the rows of q and k so that the pairs of the rope lie side by side.
#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr std::string_view kHfTypes[] = {"llama", "mistral"};

/// Mistral's window is every layer's. GGUF has no key for it under this name: there everything is seen.
Result<int64_t> read_window(const ModelSource& source) {
  if (source.is_gguf() || source.architecture() != "mistral") return 0;
  const Json* stated = source.folder()->config().find("sliding_window");
  if (stated && stated->is_null()) return 0;
  return source.integer({"", "sliding_window"}, 1, int64_t{1} << 30, 4096);
}

Status expect_dense(const ModelSource& source) {
  const Key experts{"expert_count", "num_local_experts"};
  QUERN_TRY(const int64_t n, source.integer(experts, 0, 1 << 20, 0));
  if (n > 0)
    return make_error(ErrorCode::unsupported, "{}: expected none, found {} (mixtures of experts are not built)",
                      source.name(experts), n);
  return {};
}

Result<std::unique_ptr<Model>> load(const ModelSource& source, const LoadContext& context) {
  QUERN_TRY_STATUS(expect_dense(source));
  QUERN_TRY(DecoderSpec spec,
            read_decoder(source, {.pairs = source.is_gguf() ? RopePairs::interleaved : RopePairs::halves}));
  QUERN_TRY(const int64_t window, read_window(source));
  QUERN_TRY(const Presence attention_bias, bias_presence(source, "attention_bias"));
  QUERN_TRY(const Presence mlp_bias, bias_presence(source, "mlp_bias"));
  for (AttentionSpec& layer : spec.attention) {
    layer.window = static_cast<int>(window);
    layer.qkv_bias = layer.output_bias = attention_bias;
  }
  for (FeedForwardSpec& layer : spec.ffn) std::get<FfnSpec>(layer).bias = mlp_bias;
  return load_decoder(std::move(spec), source, context);
}

}  // namespace

extern const Architecture arch_llama;
const Architecture arch_llama = {
    .name = "llama",
    .hf_model_types = kHfTypes,
    .load = load,
    .tiny = {.metadata =
                 R"({"block_count": 3, "context_length": 512, "embedding_length": 96, "feed_forward_length": 160,
        "attention.head_count": 6, "attention.head_count_kv": 2, "attention.key_length": 12, "attention.value_length": 12,
        "rope.dimension_count": 12, "rope.freq_base": 10000.0, "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": 331})",
             .values = {}},
};

}  // namespace quern
