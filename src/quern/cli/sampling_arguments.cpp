// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/sampling_arguments.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <random>

namespace quern {
namespace {

struct Setter {
  std::string_view option;
  void (*set)(SamplingOptions&, double);
};

constexpr Setter kSetters[] = {
    {"--temp", [](SamplingOptions& o, double v) { o.temperature = static_cast<float>(v); }},
    {"--top-k", [](SamplingOptions& o, double v) { o.top_k = static_cast<int>(v); }},
    {"--top-p", [](SamplingOptions& o, double v) { o.top_p = static_cast<float>(v); }},
    {"--min-p", [](SamplingOptions& o, double v) { o.min_p = static_cast<float>(v); }},
    {"--typical", [](SamplingOptions& o, double v) { o.typical_p = static_cast<float>(v); }},
    {"--repeat-penalty", [](SamplingOptions& o, double v) { o.repeat_penalty = static_cast<float>(v); }},
    {"--presence-penalty", [](SamplingOptions& o, double v) { o.presence_penalty = static_cast<float>(v); }},
    {"--frequency-penalty", [](SamplingOptions& o, double v) { o.frequency_penalty = static_cast<float>(v); }},
};

}  // namespace

SamplingOptions default_sampling(const GenerationDefaults& defaults) {
  SamplingOptions out;
  const bool advised = defaults.temperature || defaults.top_k || defaults.top_p || defaults.min_p;
  // Where the makers speak, what they leave out is off; llama.cpp's defaults else.
  out.temperature = defaults.temperature.value_or(advised ? 1.0F : 0.8F);
  out.top_k = defaults.top_k.value_or(advised ? 0 : 40);
  out.top_p = defaults.top_p.value_or(advised ? 1.0F : 0.95F);
  out.min_p = defaults.min_p.value_or(advised ? 0.0F : 0.05F);
  out.repeat_penalty = defaults.repeat_penalty.value_or(1.0F);
  return out;
}

void set_sampling(SamplingOptions& out, std::string_view option, double value) {
  for (const Setter& setter : kSetters)
    if (setter.option == option) return setter.set(out, value);
  QUERN_CHECK(false, "a sampling option without a setter");
}

Result<std::pair<int32_t, float>> parse_logit_bias(std::string_view text) {
  const auto wrong = [&] {
    return make_error(ErrorCode::invalid_argument,
                      "--logit-bias: expected ID=B, a token id and a number from -100 to 100 or -inf, found '{}'",
                      text.substr(0, 60));
  };
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return wrong();
  int32_t id = 0;
  float bias = 0;
  const auto id_end = std::from_chars(text.data(), text.data() + equals, id);
  const char* begin = text.data() + equals + 1;
  const char* end = text.data() + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto bias_end = std::from_chars(begin, end, bias);
  if (id_end.ec != std::errc() || id_end.ptr != text.data() + equals || id < 0 || bias_end.ec != std::errc() ||
      bias_end.ptr != end)
    return wrong();
  if (bias != -std::numeric_limits<float>::infinity() && !(std::abs(bias) <= 100)) return wrong();
  return std::pair(id, bias);
}

Result<SamplingOptions> sampling_options(const Arguments& arguments, const GenerationDefaults& defaults) {
  SamplingOptions out = default_sampling(defaults);
  for (const Setter& setter : kSetters) {
    const OptionSpec& option = *find_option(arguments.command(), setter.option);
    if (!arguments.has(setter.option)) continue;
    const double value = option.type == OptionType::integer ? static_cast<double>(*arguments.integer(setter.option))
                                                            : *arguments.number(setter.option);
    setter.set(out, value);
  }
  for (const std::string& text : arguments.texts("--logit-bias")) {
    QUERN_TRY(const auto bias, parse_logit_bias(text));
    out.logit_bias.push_back(bias);
  }
  return out;
}

uint64_t seed_of(const Arguments& arguments) {
  if (const auto seed = arguments.integer("--seed")) return static_cast<uint64_t>(*seed);
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32 | device()) & ((uint64_t{1} << 53) - 1);
}

}  // namespace quern
