// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/file_facts.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "quern/base/utf8.h"
#include "quern/model/architecture.h"

namespace quern {
namespace {

constexpr int64_t kShownElements = 16;

std::string_view type_name(const TensorView& view) { return view.type ? view.type->name : "?"; }

Json scalar_json(const gguf::Value& value, int64_t index) {
  switch (value.is_array() ? value.element_type() : value.type()) {
    case gguf::ValueType::string:
      return utf8_repair(value.string(index).value_or(""));
    case gguf::ValueType::boolean:
      return value.boolean(index).value_or(false);
    case gguf::ValueType::f32:
    case gguf::ValueType::f64:
      return value.number(index).value_or(0);
    case gguf::ValueType::array:
      return nullptr;
    default:
      break;
  }
  if (const auto integer = value.integer(index)) return *integer;
  return value.number(index).value_or(0);  // beyond int64
}

Json value_json(const gguf::Value& value) {
  if (!value.is_array()) return scalar_json(value, 0);
  Json::Array elements;
  for (int64_t i = 0; i < std::min(value.size(), kShownElements); ++i) elements.push_back(scalar_json(value, i));
  if (value.size() <= kShownElements) return elements;
  return Json::Object{
      {"type", gguf::value_type_name(value.element_type())}, {"size", value.size()}, {"first", std::move(elements)}};
}

/// Numbers of each weight type, the largest first.
Json types_json(const ModelSource& source) {
  std::map<std::string, int64_t> elements;
  if (source.gguf()) {
    for (const gguf::Tensor& tensor : source.gguf()->tensors())
      elements[std::string(type_name(tensor.view))] += tensor.view.shape.elements();
  } else {
    for (const safetensors::Tensor& tensor : source.folder()->tensors())
      elements[std::string(tensor.dtype)] += tensor.view.shape.elements();
  }
  std::vector<std::pair<std::string, int64_t>> sorted(elements.begin(), elements.end());
  std::ranges::sort(
      sorted, [](const auto& a, const auto& b) { return std::tie(b.second, a.first) < std::tie(a.second, b.first); });
  Json out{Json::Object()};
  for (const auto& [name, n] : sorted) out.set(name, n);
  return out;
}

/// 2048, 4096, ... and the trained length.
Json memory_json(const Model& model, KvType kv) {
  const ModelInfo& info = model.info();
  std::vector<int64_t> lengths;
  for (int64_t n = 2048; n < info.context_length && n <= (int64_t{1} << 30); n *= 2) lengths.push_back(n);
  if (info.context_length > 0) lengths.push_back(info.context_length);
  Json::Array out;
  for (int64_t n : lengths)
    out.push_back(Json::Object{{"ctx", n}, {"bytes", info.weight_bytes + state_bytes(model.state(), kv, n)}});
  return out;
}

void add_model(Json& out, const ModelSource& source, const LoadOptions& options) {
  const auto model = load_outline(source, options.isa.value_or(best_isa()));
  if (!model) {
    out.set("parameters", source.elements());
    out.set("supported", false);
    out.set("reason", model.error().message);
    return;
  }
  const ModelInfo& info = (*model)->info();
  out.set("parameters", info.parameters);
  out.set("active_parameters", info.active_parameters);
  out.set("supported", true);
  out.set("context_length", info.context_length);
  out.set("n_layer", info.n_layer);
  out.set("n_embd", info.n_embd);
  const auto add = [&](std::string_view name, Key key) {
    if (const auto n = source.integers(key, info.n_layer, 0, 1 << 20); n && !n->empty())
      out.set(name, *std::ranges::max_element(*n));
  };
  add("n_head", {"attention.head_count", "num_attention_heads"});
  add("n_kv_head", {"attention.head_count_kv", "num_key_value_heads"});
  out.set("n_vocab", info.n_vocab);
  out.set("step_bytes", info.step_bytes);
  out.set("memory", memory_json(**model, options.kv));
}

void add_text(Json& out, const ModelSource& source) {
  const auto tokenizer = load_tokenizer(source);
  out.set("tokenizer", tokenizer ? Json((*tokenizer)->kind()) : Json());
  if (tokenizer)
    out.set("n_tokens", (*tokenizer)->size());
  else
    out.set("tokenizer_error", tokenizer.error().message);
  bool has_template = false;
  if (source.gguf()) {
    has_template = source.gguf()->find("tokenizer.chat_template") != nullptr;
  } else if (const auto text = source.folder()->chat_template()) {
    has_template = text->has_value();
  }
  out.set("chat_template", has_template);
}

}  // namespace

Json file_facts(const ModelSource& source, const LoadOptions& options) {
  Json out;
  out.set("format", source.is_gguf() ? "gguf" : "safetensors");
  if (source.is_gguf()) out.set("version", source.gguf()->version());
  out.set("architecture", source.architecture());
  if (source.is_gguf())
    if (const gguf::Value* name = source.gguf()->find("general.name"); name && name->string())
      out.set("name", utf8_repair(*name->string()));
  out.set("file_bytes", source.file_bytes());
  out.set("types", types_json(source));
  add_model(out, source, options);
  add_text(out, source);
  return out;
}

Json metadata_json(const ModelSource& source) {
  if (!source.is_gguf()) return source.folder()->config();
  Json out{Json::Object()};
  for (const gguf::Entry& entry : source.gguf()->metadata())
    out.object().emplace_back(utf8_repair(entry.key), value_json(entry.value));
  return out;
}

Json tensors_json(const ModelSource& source) {
  Json::Array out;
  const auto add = [&](std::string_view name, std::string_view type, const TensorView& view, bool reversed) {
    Json::Array shape;
    for (int i = 0; i < view.shape.rank; ++i) shape.emplace_back(view.shape.ne[reversed ? view.shape.rank - 1 - i : i]);
    out.push_back(Json::Object{{"name", utf8_repair(name)},
                               {"type", type},
                               {"shape", std::move(shape)},
                               {"bytes", static_cast<int64_t>(view.data.size())}});
  };
  if (source.gguf()) {
    for (const gguf::Tensor& tensor : source.gguf()->tensors())
      add(tensor.name, type_name(tensor.view), tensor.view, false);
  } else {
    for (const safetensors::Tensor& tensor : source.folder()->tensors())
      add(tensor.name, tensor.dtype, tensor.view, true);
  }
  return out;
}

}  // namespace quern
