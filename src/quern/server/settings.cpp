// SPDX-License-Identifier: Apache-2.0
#include "quern/server/settings.h"

#include <charconv>
#include <random>

namespace quern {
namespace {

/// The id that a member's name is; nothing where it is none, or not written as JSON writes integers.
std::optional<int32_t> id_of(std::string_view key) {
  int32_t id = -1;
  const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (status != std::errc() || end != key.data() + key.size() || id < 0) return std::nullopt;
  if (key.size() > 1 && key.front() == '0') return std::nullopt;
  return id;
}

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

struct Setter {
  std::string_view field;
  void (*set)(SamplingOptions&, double);
};
constexpr Setter kSetters[] = {
    {"temperature", [](SamplingOptions& o, double v) { o.temperature = static_cast<float>(v); }},
    {"top_p", [](SamplingOptions& o, double v) { o.top_p = static_cast<float>(v); }},
    {"top_k", [](SamplingOptions& o, double v) { o.top_k = static_cast<int>(v); }},
    {"min_p", [](SamplingOptions& o, double v) { o.min_p = static_cast<float>(v); }},
    {"typical_p", [](SamplingOptions& o, double v) { o.typical_p = static_cast<float>(v); }},
    {"frequency_penalty", [](SamplingOptions& o, double v) { o.frequency_penalty = static_cast<float>(v); }},
    {"presence_penalty", [](SamplingOptions& o, double v) { o.presence_penalty = static_cast<float>(v); }},
    {"repeat_penalty", [](SamplingOptions& o, double v) { o.repeat_penalty = static_cast<float>(v); }},
    {"repeat_last_n", [](SamplingOptions& o, double v) { o.repeat_last_n = static_cast<int>(v); }},
};

SamplingOptions model_defaults(const GenerationDefaults& advised) {
  SamplingOptions out;
  out.temperature = advised.temperature.value_or(1.0F);
  out.top_p = advised.top_p.value_or(1.0F);
  out.min_p = advised.min_p.value_or(0.0F);
  out.top_k = advised.top_k.value_or(0);
  out.repeat_penalty = advised.repeat_penalty.value_or(1.0F);
  return out;
}

}  // namespace

Status check_stops(const Json& value) {
  const auto too_long = [](const Json& text) { return text.is_string() && text.string().size() > kMaxStopBytes; };
  if (too_long(value))
    return make_error(ErrorCode::invalid_argument, ": expected at most {} bytes, found {}", kMaxStopBytes,
                      value.string().size());
  if (!value.is_array()) return {};
  const Json::Array& texts = value.array();
  if (texts.size() > kMaxStops)
    return make_error(ErrorCode::invalid_argument, ": expected at most {} texts, found {}", kMaxStops, texts.size());
  for (size_t i = 0; i < texts.size(); ++i)
    if (too_long(texts[i]))
      return make_error(ErrorCode::invalid_argument, "[{}]: expected at most {} bytes, found {}", i, kMaxStopBytes,
                        texts[i].string().size());
  return {};
}

Status check_logit_bias(const Json& value) {
  if (value.object().size() > kMaxBiases)
    return make_error(ErrorCode::invalid_argument, ": expected at most {} token ids, found {}", kMaxBiases,
                      value.object().size());
  for (const auto& [key, bias] : value.object()) {
    if (!id_of(key))
      return make_error(ErrorCode::invalid_argument, ": expected token ids as names, found {}", short_quote(key));
    if (!bias.is_number() || !(bias.number() >= -100 && bias.number() <= 100))
      return make_error(ErrorCode::invalid_argument, ".{}: expected a number from -100 to 100, found {}", key,
                        found_text(bias));
  }
  return {};
}

std::vector<std::string> stop_texts(const Json* stop) {
  std::vector<std::string> out;
  if (!stop || stop->is_null()) return out;
  const auto add = [&](const Json& text) {
    if (!text.string().empty()) out.push_back(text.string());
  };
  if (stop->is_string())
    add(*stop);
  else
    std::for_each(stop->array().begin(), stop->array().end(), add);
  return out;
}

Json template_variables(const Json* kwargs, std::string_view effort) {
  Json out = kwargs ? *kwargs : Json(Json::Object{});
  const auto unless_given = [&](std::string_view name, Json value) {
    if (!out.find(name)) out.set(name, std::move(value));
  };
  if (effort == "none") {
    unless_given("enable_thinking", false);
    unless_given("thinking", false);
  } else if (!effort.empty()) {
    unless_given("reasoning_effort", effort);
  }
  return out;
}

Result<std::shared_ptr<ServedModel>> named_model(const Json& body, ModelHost& models) {
  const Json* name = field(body, "model");
  return models.model(name ? std::string_view(name->string()) : std::string_view());
}

bool flag(const Json& body, std::string_view name, bool absent) {
  const Json* value = field(body, name);
  return value ? value->boolean() : absent;
}

int64_t integer(const Json& body, std::string_view name, int64_t absent) {
  const Json* value = field(body, name);
  return value ? value->integer() : absent;
}

int64_t vocabulary_size(const ServedModel& model) {
  // Files may name more tokens than the model has rows for, and the other way round.
  return std::min<int64_t>(model.tokenizer().size(), model.info().n_vocab);
}

Result<Request> request_settings(const Json& body, const ServedModel& model, std::string_view owner) {
  static constexpr auto fields = std::to_array({kStopField});
  QUERN_TRY_STATUS(check_fields(fields, body));
  QUERN_TRY(Request out, settings_without_stops(body, model, owner));
  out.stops = stop_texts(field(body, "stop"));
  return out;
}

Result<Request> settings_without_stops(const Json& body, const ServedModel& model, std::string_view owner) {
  static constexpr auto fields = join_fields(kSamplingFields, kServingFields);
  QUERN_TRY_STATUS(check_fields(fields, body));
  Request out;
  out.sampling = model_defaults(model.defaults());
  for (const Setter& setter : kSetters)
    if (const Json* value = field(body, setter.field)) setter.set(out.sampling, value->number());
  const Json* seed = field(body, "seed");
  out.sampling.seed = seed && seed->integer() != -1 ? static_cast<uint64_t>(seed->integer()) : random_seed();
  if (const Json* bias = field(body, "logit_bias"))
    for (const auto& [key, value] : bias->object())
      out.sampling.logit_bias.emplace_back(*id_of(key), static_cast<float>(value.number()));
  QUERN_TRY_STATUS(check_sampling(out.sampling, vocabulary_size(model)));

  out.end_ids = model.defaults().end_ids;
  out.ignore_end = flag(body, "ignore_eos");
  out.use_cache = flag(body, "cache_prompt", true);
  out.priority = static_cast<int>(integer(body, "priority", 0));
  out.owner = owner;
  return out;
}

}  // namespace quern
