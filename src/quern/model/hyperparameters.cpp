// SPDX-License-Identifier: Apache-2.0
// ModelSource's reading of hyper-parameters.
#include <cmath>

#include "quern/model/source.h"

namespace quern {
namespace {

constexpr size_t kShown = 60;  // characters of a wrong value that an error quotes

std::string shown(const Json& value) { return value.dump().substr(0, kShown); }

std::string shown(const gguf::Value& value) {
  if (value.is_array())
    return fmt::format("a list of {} {}", value.size(), gguf::value_type_name(value.element_type()));
  if (const auto text = value.string()) return json_quote(text->substr(0, kShown));
  if (const auto integer = value.integer()) return fmt::format("{}", *integer);
  if (const auto number = value.number()) return fmt::format("{}", *number);
  return std::string(gguf::value_type_name(value.type()));
}

Error missing(const std::string& name, std::string_view expected) {
  return make_error(ErrorCode::not_found, "{}: expected {}, found no such key", name, expected);
}

Error wrong(const std::string& name, std::string_view expected, std::string_view found) {
  return make_error(ErrorCode::corrupt_data, "{}: expected {}, found {}", name, expected, found);
}

std::string range(int64_t low, int64_t high) { return fmt::format("an integer of {} to {}", low, high); }
std::string range(double low, double high) { return fmt::format("a number of {} to {}", low, high); }

}  // namespace

std::string ModelSource::name(Key key) const {
  return is_gguf() ? fmt::format("{}.{}", architecture_, key.gguf) : fmt::format("config.json: {}", key.hf);
}

namespace {

const Json* follow(const Json* at, std::string_view path) {
  while (at && !path.empty()) {
    const size_t dot = path.find('.');
    at = at->find(path.substr(0, dot));
    path = dot == path.npos ? std::string_view() : path.substr(dot + 1);
  }
  return at && !at->is_null() ? at : nullptr;
}

}  // namespace

const Json* ModelSource::config(std::string_view path) const {
  if (!config_) return nullptr;
  const Json* found = follow(config_, path);
  return found ? found : follow(&folder_->config(), path);
}

bool ModelSource::has(Key key) const {
  if (is_gguf()) return !key.gguf.empty() && file_->find(name(key));
  return !key.hf.empty() && config(key.hf);
}

namespace {

/// The value of a key in either container: what a reader gets to see.
struct Found {
  const gguf::Value* value = nullptr;
  const Json* json = nullptr;
  explicit operator bool() const { return value || json; }
  std::string text() const { return value ? shown(*value) : shown(*json); }

  std::optional<int64_t> integer(int64_t i = 0) const {
    if (value) return value->integer(i);
    const Json& item = json->is_array() ? json->array()[i] : *json;
    return item.is_integer() ? std::optional(item.integer()) : std::nullopt;
  }
  std::optional<int64_t> list_size() const {
    if (value) return value->is_array() ? std::optional(value->size()) : std::nullopt;
    return json->is_array() ? std::optional(static_cast<int64_t>(json->array().size())) : std::nullopt;
  }
  bool is_list() const { return list_size().has_value(); }
};

Found find(const ModelSource& source, Key key) {
  if (source.is_gguf()) return {key.gguf.empty() ? nullptr : source.gguf()->find(source.name(key)), nullptr};
  return {nullptr, key.hf.empty() ? nullptr : source.config(key.hf)};
}

}  // namespace

Result<int64_t> ModelSource::integer(Key key, int64_t low, int64_t high, std::optional<int64_t> fallback) const {
  const Found found = find(*this, key);
  if (!found) return fallback ? Result<int64_t>(*fallback) : missing(name(key), range(low, high));
  const auto value = found.is_list() ? std::nullopt : found.integer();
  if (!value || *value < low || *value > high) return wrong(name(key), range(low, high), found.text());
  return *value;
}

Result<double> ModelSource::number(Key key, double low, double high, std::optional<double> fallback) const {
  const Found found = find(*this, key);
  if (!found) return fallback ? Result<double>(*fallback) : missing(name(key), range(low, high));
  std::optional<double> value;
  if (found.value && !found.value->is_array()) value = found.value->number();
  if (found.json && found.json->is_number()) value = found.json->number();
  if (!value || !std::isfinite(*value) || *value < low || *value > high)
    return wrong(name(key), range(low, high), found.text());
  return *value;
}

Result<bool> ModelSource::boolean(Key key, std::optional<bool> fallback) const {
  const Found found = find(*this, key);
  if (!found) return fallback ? Result<bool>(*fallback) : missing(name(key), "true or false");
  std::optional<bool> value;
  if (found.value && !found.value->is_array()) value = found.value->boolean();
  if (found.json && found.json->is_bool()) value = found.json->boolean();
  if (!value) return wrong(name(key), "true or false", found.text());
  return *value;
}

Result<std::string> ModelSource::text(Key key, std::optional<std::string_view> fallback) const {
  const Found found = find(*this, key);
  if (!found) return fallback ? Result<std::string>(std::string(*fallback)) : missing(name(key), "a string");
  std::optional<std::string_view> value;
  if (found.value && !found.value->is_array()) value = found.value->string();
  if (found.json && found.json->is_string()) value = found.json->string();
  if (!value) return wrong(name(key), "a string", found.text());
  return std::string(*value);
}

Result<std::vector<int64_t>> ModelSource::integers(Key key, int count, int64_t low, int64_t high,
                                                   std::optional<int64_t> fallback) const {
  const Found found = find(*this, key);
  if (!found || !found.is_list()) {
    QUERN_TRY(const int64_t one, integer(key, low, high, fallback));
    return std::vector<int64_t>(count, one);
  }
  if (*found.list_size() < count)
    return wrong(name(key), fmt::format("a list of {}", count), fmt::format("one of {}", *found.list_size()));
  std::vector<int64_t> out(count);
  for (int i = 0; i < count; ++i) {
    const auto value = found.integer(i);
    if (!value || *value < low || *value > high)
      return wrong(fmt::format("{}[{}]", name(key), i), range(low, high),
                   value ? fmt::format("{}", *value) : "another kind");
    out[i] = *value;
  }
  return out;
}

}  // namespace quern
