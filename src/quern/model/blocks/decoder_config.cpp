// SPDX-License-Identifier: Apache-2.0
// Reading of the hyper-parameters that most families share. Upper bounds are far above any model there is and low
// enough that no product of two of them overflows or is worth an allocation.
#include <algorithm>

#include "quern/model/blocks/decoder.h"

namespace quern {
namespace {

constexpr int64_t kMaxLayers = 4096, kMaxEmbd = 1 << 20, kMaxVocab = 1 << 26, kMaxFf = 1 << 24, kMaxExperts = 1 << 12;
constexpr int64_t kMaxHeads = 1 << 16, kMaxHeadWidth = 1 << 12, kMaxContext = (int64_t{1} << 31) - 1;

constexpr Key kLayers = {"block_count", "num_hidden_layers"};
constexpr Key kHeads = {"attention.head_count", "num_attention_heads"};
constexpr Key kKvHeads = {"attention.head_count_kv", "num_key_value_heads"};
constexpr TensorName kEmbedding = {"token_embd.weight", "model.embed_tokens.weight"};

/// The rows of the embedding: GGUF names their number only sometimes.
Result<int64_t> read_vocab(const ModelSource& source) {
  std::optional<int64_t> rows;
  if (const TensorView* embedding = source.is_gguf() ? source.find_tensor(kEmbedding) : nullptr)
    rows = embedding->shape.rows();
  QUERN_TRY(const int64_t n_vocab, source.integer({"vocab_size", "vocab_size"}, 1, kMaxVocab, rows));
  if (n_vocab < 1 || n_vocab > kMaxVocab)
    return make_error(ErrorCode::corrupt_data, "{}: expected 1 to {} rows, found {}", source.name(kEmbedding, 0),
                      kMaxVocab, n_vocab);
  const gguf::Value* tokens = source.is_gguf() ? source.gguf()->find("tokenizer.ggml.tokens") : nullptr;
  if (tokens && tokens->is_array() && tokens->size() > n_vocab)
    return make_error(ErrorCode::corrupt_data, "tokenizer.ggml.tokens: expected at most {} (the rows of {}), found {}",
                      n_vocab, source.name(kEmbedding, 0), tokens->size());
  return n_vocab;
}

/// All but the feed-forward parts.
Result<DecoderSpec> read_stream(const ModelSource& source, const RopeDefaults& defaults) {
  DecoderSpec spec;
  QUERN_TRY(spec.sizes, read_sizes(source));
  QUERN_TRY(spec.attention, read_attention(source, spec.sizes));
  QUERN_TRY_STATUS(expect_silu(source));
  QUERN_TRY(Rope rope, read_rope(source, spec.attention.front().key_width, defaults));
  spec.ropes.push_back(std::move(rope));
  return spec;
}

/// A file with more layers than it says would answer nonsense.
Status expect_no_layer(const ModelSource& source, int64_t n_layer) {
  constexpr TensorName kNorm = {"blk.{}.attn_norm.weight", ""};
  if (source.find_tensor(kNorm, static_cast<int>(n_layer)))
    return make_error(ErrorCode::corrupt_data, "{}: expected more than {}, for there is {}", source.name(kLayers),
                      n_layer, source.name(kNorm, static_cast<int>(n_layer)));
  return {};
}

/// Of `block_count` layers the last of GGUF may be for drafting several tokens at once: they are no part of the model.
Result<int64_t> read_layers(const ModelSource& source) {
  QUERN_TRY(const int64_t blocks, source.integer(kLayers, 1, kMaxLayers));
  QUERN_TRY_STATUS(expect_no_layer(source, blocks));
  QUERN_TRY(const int64_t drafting, source.integer({"nextn_predict_layers", ""}, 0, blocks - 1, 0));
  return blocks - drafting;
}

}  // namespace

Result<ModelSizes> read_sizes(const ModelSource& source) {
  ModelSizes sizes;
  QUERN_TRY(const int64_t n_layer, read_layers(source));
  sizes.n_layer = static_cast<int>(n_layer);
  QUERN_TRY(sizes.n_embd, source.integer({"embedding_length", "hidden_size"}, 1, kMaxEmbd));
  QUERN_TRY(sizes.n_vocab, read_vocab(source));
  QUERN_TRY(sizes.context_length, source.integer({"context_length", "max_position_embeddings"}, 1, kMaxContext));
  QUERN_TRY(const double eps, source.number({"attention.layer_norm_rms_epsilon", "rms_norm_eps"}, 1e-15, 0.1));
  sizes.eps = static_cast<float>(eps);
  return sizes;
}

Result<std::vector<AttentionSpec>> read_attention(const ModelSource& source, const ModelSizes& sizes) {
  const int n_layer = sizes.n_layer;
  QUERN_TRY(const auto heads, source.integers(kHeads, n_layer, 1, kMaxHeads));
  std::vector<AttentionSpec> layers(n_layer);
  QUERN_TRY(const auto kv_heads, source.has(kKvHeads) ? source.integers(kKvHeads, n_layer, 1, kMaxHeads)
                                                      : Result<std::vector<int64_t>>(heads));
  const bool explicit_width = source.has({"attention.key_length", "head_dim"});
  for (int i = 0; i < n_layer; ++i) {
    if (kv_heads[i] > heads[i] || heads[i] % kv_heads[i])
      return make_error(ErrorCode::corrupt_data, "{}: expected a divisor of the {} heads, found {}",
                        source.name(kKvHeads), heads[i], kv_heads[i]);
    if (!explicit_width && sizes.n_embd % heads[i])
      return make_error(ErrorCode::corrupt_data, "{}: expected a divisor of {}, found {}", source.name(kHeads),
                        sizes.n_embd, heads[i]);
    const int64_t width = std::clamp<int64_t>(sizes.n_embd / heads[i], 1, kMaxHeadWidth);
    QUERN_TRY(const int64_t key_width, source.integer({"attention.key_length", "head_dim"}, 1, kMaxHeadWidth, width));
    QUERN_TRY(const int64_t value_width,
              source.integer({"attention.value_length", "head_dim"}, 1, kMaxHeadWidth, width));
    layers[i] = {.n_embd = sizes.n_embd,
                 .n_head = static_cast<int>(heads[i]),
                 .n_kv_head = static_cast<int>(kv_heads[i]),
                 .key_width = static_cast<int>(key_width),
                 .value_width = static_cast<int>(value_width),
                 .eps = sizes.eps};
  }
  return layers;
}

Result<std::vector<FeedForwardSpec>> read_ffn(const ModelSource& source, const ModelSizes& sizes) {
  QUERN_TRY(const auto widths, source.integers({"feed_forward_length", "intermediate_size"}, sizes.n_layer, 1, kMaxFf));
  std::vector<FeedForwardSpec> layers;
  for (int64_t n_ff : widths) layers.push_back(FfnSpec{.n_embd = sizes.n_embd, .n_ff = n_ff, .eps = sizes.eps});
  return layers;
}

Result<std::vector<FeedForwardSpec>> read_moe(const ModelSource& source, const ModelSizes& sizes) {
  constexpr Key kUsed = {"expert_used_count", "num_experts_per_tok"};
  constexpr Key kWidth = {"expert_feed_forward_length", "moe_intermediate_size"};
  // As published, and as newer transformers writes it.
  Key experts = {"expert_count", "num_experts"};
  if (!source.has(experts) && source.has({"", "num_local_experts"})) experts.hf = "num_local_experts";
  QUERN_TRY(const int64_t n_expert, source.integer(experts, 1, kMaxExperts));
  QUERN_TRY(const int64_t n_used, source.integer(kUsed, 1, n_expert));
  QUERN_TRY(const int64_t n_ff, source.integer(kWidth, 1, kMaxFf / n_expert));
  const MoeSpec layer = {.n_embd = sizes.n_embd,
                         .n_ff = n_ff,
                         .router = {.n_expert = static_cast<int>(n_expert), .n_used = static_cast<int>(n_used)},
                         .eps = sizes.eps};
  return std::vector<FeedForwardSpec>(sizes.n_layer, layer);
}

Status read_windows(const ModelSource& source, std::vector<AttentionSpec>& layers) {
  QUERN_TRY(const bool used, source.boolean({"", "use_sliding_window"}, false));
  if (!used || !source.config("sliding_window")) return {};
  QUERN_TRY(const int64_t window, source.integer({"", "sliding_window"}, 1, kMaxContext));
  const int n_layer = static_cast<int>(layers.size());
  QUERN_TRY(const int64_t first, source.integer({"", "max_window_layers"}, 0, kMaxLayers, n_layer));
  const Json* types = source.config("layer_types");
  if (types && (!types->is_array() || static_cast<int>(types->array().size()) < n_layer))
    return make_error(ErrorCode::corrupt_data, "config.json: layer_types: expected a list of {}", n_layer);
  for (int i = 0; i < n_layer; ++i) {
    const bool slides = types ? types->array()[i] == Json("sliding_attention") : i >= first;
    if (slides) layers[i].window = static_cast<int>(window);
  }
  return {};
}

Status expect_silu(const ModelSource& source) {
  QUERN_TRY(const std::string activation, source.text({"", "hidden_act"}, "silu"));
  if (activation != "silu" && activation != "swish")
    return make_error(ErrorCode::unsupported, "config.json: hidden_act: expected \"silu\", found {}",
                      json_quote(activation.substr(0, 60)));
  return {};
}

Result<Presence> bias_presence(const ModelSource& source, std::string_view hf_flag) {
  QUERN_TRY(const bool wanted, source.boolean({"", hf_flag}, false));
  return wanted ? Presence::required : Presence::optional;
}

Result<DecoderSpec> read_decoder(const ModelSource& source, const RopeDefaults& rope) {
  QUERN_TRY(DecoderSpec spec, read_stream(source, rope));
  QUERN_TRY(spec.ffn, read_ffn(source, spec.sizes));
  return spec;
}

Result<DecoderSpec> read_moe_decoder(const ModelSource& source, const RopeDefaults& rope) {
  QUERN_TRY(DecoderSpec spec, read_stream(source, rope));
  QUERN_TRY(spec.ffn, read_moe(source, spec.sizes));
  return spec;
}

}  // namespace quern
