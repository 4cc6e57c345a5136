// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/rope_config.h"

#include <cmath>

namespace quern {
namespace {

constexpr double kMaxBase = 1e15, kMinFactor = 1e-3, kMaxFactor = 1e6, kMaxContext = 1e9;

Key context_key() { return {"context_length", "max_position_embeddings"}; }

/// 0.1 m ln F + 1: what a longer context does to the temperature of attention (YaRN, section 3.4).
double yarn_magnitude(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1; }

Result<double> trained_context(const ModelSource& source, Key key) {
  QUERN_TRY(const double context, source.number(context_key(), 1, kMaxContext));
  return source.number(key, 1, kMaxContext, context);
}

/// A factor of GGUF: some writers say 0 for "none", which is 1.
Result<double> gguf_factor(const ModelSource& source, Key key, double fallback) {
  QUERN_TRY(const double factor, source.number(key, 0, kMaxFactor, fallback));
  if (factor == 0) return 1;
  if (factor < kMinFactor)
    return make_error(ErrorCode::corrupt_data, "{}: expected 0 or a number of {} to {}, found {}", source.name(key),
                      kMinFactor, kMaxFactor, factor);
  return factor;
}

Status scale_gguf(const ModelSource& source, double base, Rope& rope) {
  QUERN_TRY(const std::string type, source.text({"rope.scaling.type", ""}, "linear"));
  if (type == "none") return {};
  QUERN_TRY(const double old_factor, gguf_factor(source, {"rope.scale_linear", ""}, 1));
  QUERN_TRY(const double factor, gguf_factor(source, {"rope.scaling.factor", ""}, old_factor));
  if (type == "linear") {
    for (double& f : rope.inv_freq) f /= factor;
  } else if (type == "yarn") {
    YarnScaling yarn{.factor = factor, .original_context = 0};
    QUERN_TRY(yarn.original_context, trained_context(source, {"rope.scaling.original_context_length", ""}));
    QUERN_TRY(yarn.beta_fast, source.number({"rope.scaling.yarn_beta_fast", ""}, 1e-3, 1e6, yarn.beta_fast));
    QUERN_TRY(yarn.beta_slow, source.number({"rope.scaling.yarn_beta_slow", ""}, 1e-3, 1e6, yarn.beta_slow));
    QUERN_TRY(const double attn_factor, source.number({"rope.scaling.attn_factor", ""}, 1e-3, 1e3, 1));
    QUERN_TRY(const double yarn_attn_factor, source.number({"rope.scaling.yarn_attn_factor", ""}, 1e-3, 1e3, 1));
    scale_yarn(rope.inv_freq, base, yarn);
    rope.magnitude = static_cast<float>(yarn_magnitude(factor, 1) * attn_factor * yarn_attn_factor);
  } else {
    return make_error(ErrorCode::unsupported, "{}: expected none, linear or yarn, found {}",
                      source.name(Key{"rope.scaling.type", ""}), json_quote(type.substr(0, 60)));
  }
  return {};
}

/// Llama 3's scaling comes to GGUF as one divisor per pair.
Status divide_by_tensor(const ModelSource& source, Rope& rope) {
  constexpr TensorName kDivisors = {"rope_freqs.weight", ""};
  const int64_t pairs = static_cast<int64_t>(rope.inv_freq.size());
  if (!source.find_tensor(kDivisors)) return {};
  QUERN_TRY(const TensorView view, source.tensor(kDivisors, 0, {pairs}));
  std::vector<float> divisors(pairs);
  view.decode_row(0, divisors.data());
  for (int64_t i = 0; i < pairs; ++i) {
    if (!(divisors[i] > 0) || !std::isfinite(divisors[i]))
      return make_error(ErrorCode::corrupt_data, "rope_freqs.weight[{}]: expected a number above 0, found {}", i,
                        divisors[i]);
    rope.inv_freq[i] /= divisors[i];
  }
  return {};
}

Result<Rope> read_gguf(const ModelSource& source, int head_width, const RopeDefaults& defaults) {
  QUERN_TRY(const double base, source.number({"rope.freq_base", ""}, 1.0001, kMaxBase, defaults.base));
  QUERN_TRY(const int64_t d, source.integer({"rope.dimension_count", ""}, 2, head_width, head_width));
  if (d % 2)
    return make_error(ErrorCode::corrupt_data, "{}: expected an even number, found {}",
                      source.name(Key{"rope.dimension_count", ""}), d);
  Rope rope{.pairs = defaults.pairs, .inv_freq = rope_frequencies(static_cast<int>(d), base)};
  QUERN_TRY_STATUS(scale_gguf(source, base, rope));
  QUERN_TRY_STATUS(divide_by_tensor(source, rope));
  return rope;
}

/// A key of the scaling settings: in rope_parameters, or in rope_scaling of older files.
class HfScaling {
 public:
  explicit HfScaling(const ModelSource& source)
      : source_(source), table_(source.config("rope_parameters") ? "rope_parameters" : "rope_scaling") {}

  bool has(std::string_view key) const { return source_.has({"", path(key)}); }
  Result<double> number(std::string_view key, double low, double high, std::optional<double> fallback = {}) const {
    return source_.number({"", path(key)}, low, high, fallback);
  }
  Result<bool> boolean(std::string_view key, bool fallback) const { return source_.boolean({"", path(key)}, fallback); }
  Result<std::string> type() const {
    QUERN_TRY(const std::string old, source_.text({"", path("type")}, "default"));
    return source_.text({"", path("rope_type")}, old);
  }
  std::string path(std::string_view key) const { return fmt::format("{}.{}", table_, key); }

 private:
  const ModelSource& source_;
  std::string_view table_;
};

Result<double> hf_yarn_magnitude(const HfScaling& scaling, double factor) {
  if (scaling.has("attention_factor")) return scaling.number("attention_factor", 1e-3, 1e3);
  QUERN_TRY(const double mscale, scaling.number("mscale", 0, 1e3, 0));
  QUERN_TRY(const double all_dim, scaling.number("mscale_all_dim", 0, 1e3, 0));
  if (mscale > 0 && all_dim > 0) return yarn_magnitude(factor, mscale) / yarn_magnitude(factor, all_dim);
  return yarn_magnitude(factor, 1);
}

Status scale_hf_yarn(const ModelSource& source, const HfScaling& scaling, double base, Rope& rope) {
  YarnScaling yarn{.factor = 1, .original_context = 0};
  QUERN_TRY(const double context, source.number(context_key(), 1, kMaxContext));
  QUERN_TRY(yarn.original_context, scaling.number("original_max_position_embeddings", 1, kMaxContext, context));
  QUERN_TRY(yarn.factor, scaling.number("factor", kMinFactor, kMaxFactor, context / yarn.original_context));
  QUERN_TRY(yarn.beta_fast, scaling.number("beta_fast", 1e-3, 1e6, yarn.beta_fast));
  QUERN_TRY(yarn.beta_slow, scaling.number("beta_slow", 1e-3, 1e6, yarn.beta_slow));
  QUERN_TRY(yarn.truncate, scaling.boolean("truncate", true));
  scale_yarn(rope.inv_freq, base, yarn);
  QUERN_TRY(const double magnitude, hf_yarn_magnitude(scaling, yarn.factor));
  rope.magnitude = static_cast<float>(magnitude);
  return {};
}

Status scale_hf(const ModelSource& source, const HfScaling& scaling, double base, Rope& rope) {
  QUERN_TRY(const std::string type, scaling.type());
  // Dynamic scaling begins beyond max_position_embeddings, which is the longest context here. "mrope" turns text as
  // plain rope does: its three positions are equal there.
  if (type == "default" || type == "dynamic" || type == "mrope") return {};
  if (type == "linear") {
    QUERN_TRY(const double factor, scaling.number("factor", kMinFactor, kMaxFactor));
    for (double& f : rope.inv_freq) f /= factor;
    return {};
  }
  if (type == "llama3") {
    Llama3Scaling s{};
    QUERN_TRY(s.factor, scaling.number("factor", kMinFactor, kMaxFactor));
    QUERN_TRY(s.low_freq_factor, scaling.number("low_freq_factor", kMinFactor, kMaxFactor));
    QUERN_TRY(s.high_freq_factor, scaling.number("high_freq_factor", kMinFactor, kMaxFactor));
    QUERN_TRY(s.original_context, scaling.number("original_max_position_embeddings", 1, kMaxContext));
    if (s.high_freq_factor <= s.low_freq_factor)
      return make_error(ErrorCode::corrupt_data, "config.json: {}: expected above low_freq_factor {}, found {}",
                        scaling.path("high_freq_factor"), s.low_freq_factor, s.high_freq_factor);
    scale_llama3(rope.inv_freq, s);
    return {};
  }
  if (type == "yarn") return scale_hf_yarn(source, scaling, base, rope);
  return make_error(ErrorCode::unsupported,
                    "config.json: {}: expected default, linear, llama3, yarn or dynamic, found {}",
                    scaling.path("rope_type"), json_quote(type.substr(0, 60)));
}

Result<Rope> read_hf(const ModelSource& source, int head_width, const RopeDefaults& defaults) {
  const HfScaling scaling(source);
  QUERN_TRY(const double old_base, source.number({"", "rope_theta"}, 1.0001, kMaxBase, defaults.base));
  QUERN_TRY(const double base, scaling.number("rope_theta", 1.0001, kMaxBase, old_base));
  QUERN_TRY(const double old_partial, source.number({"", "partial_rotary_factor"}, 0, 1, defaults.partial));
  QUERN_TRY(const double partial, scaling.number("partial_rotary_factor", 0, 1, old_partial));
  const int d = static_cast<int>(head_width * partial);
  if (d < 2 || d % 2)
    return make_error(ErrorCode::corrupt_data,
                      "config.json: partial_rotary_factor: expected an even number of {} dimensions, found {}",
                      head_width, d);
  Rope rope{.pairs = defaults.pairs, .inv_freq = rope_frequencies(d, base)};
  QUERN_TRY_STATUS(scale_hf(source, scaling, base, rope));
  return rope;
}

}  // namespace

Result<Rope> read_rope(const ModelSource& source, int head_width, const RopeDefaults& defaults) {
  return source.is_gguf() ? read_gguf(source, head_width, defaults) : read_hf(source, head_width, defaults);
}

}  // namespace quern
