// SPDX-License-Identifier: Apache-2.0
// Attributes, items and slices.
#include <algorithm>
#include <limits>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

Value char_at(Runtime& rt, const Value& string, int64_t index) {
  const Text& text = string.text();
  const bool single_bytes = string.as<StringObject>().chars() == text.size();
  const auto from = single_bytes ? static_cast<size_t>(index) : char_position(text.view(), static_cast<size_t>(index));
  const auto to = from + static_cast<size_t>(utf8_decode(text.view().substr(from)).length);
  return rt.string(text.slice(from, to), string.as<StringObject>().markup);
}

/// The item under an index or key, if the value has it.
Result<std::optional<Value>> item_of(Runtime& rt, const Value& value, const Value& key) {
  if (value.is(Kind::dict)) {
    const DictObject& dict = value.as<DictObject>();
    if (!is_hashable(key)) return std::optional<Value>();  // Python's TypeError, which Jinja2 takes for "not there"
    QUERN_TRY(const auto place, find_key(rt, dict, key));
    if (!place) return std::optional<Value>();
    return std::optional<Value>(dict.entries[*place].second);
  }
  if (!key.is_integral()) return std::optional<Value>();
  const bool indexable =
      value.is(Kind::list) || value.is(Kind::tuple) || value.is(Kind::range) || value.is(Kind::string);
  if (!indexable) return std::optional<Value>();
  QUERN_TRY(const int64_t n, length(value));
  int64_t index = key.as_integer();
  if (index < 0) index += n;
  if (index < 0 || index >= n) return std::optional<Value>();
  if (value.is(Kind::string)) {
    QUERN_TRY_STATUS(rt.spend_bytes(value.view().size() / 16));
    return std::optional<Value>(char_at(rt, value, index));
  }
  if (value.is(Kind::range))
    return std::optional<Value>(Value::integer(value.as<RangeObject>().start + index * value.as<RangeObject>().step));
  return std::optional<Value>(value.as<ListObject>().items[static_cast<size_t>(index)]);
}

Result<Value> loop_attribute(Runtime& rt, LoopObject& loop, std::string_view name);

std::optional<Value> macro_attribute(Runtime& rt, const MacroCode& code, std::string_view name) {
  if (name == "name") return rt.string(code.name);
  if (name == "catch_kwargs") return Value::boolean(code.kwargs.hops >= 0);
  if (name == "catch_varargs") return Value::boolean(code.varargs.hops >= 0);
  if (name == "caller") return Value::boolean(code.caller.hops >= 0);
  if (name != "arguments") return std::nullopt;
  Values names;
  for (const Parameter& parameter : code.parameters) names.push_back(rt.string(parameter.name));
  return rt.tuple(std::move(names));
}

Result<std::optional<Value>> attribute_of(Runtime& rt, const Value& value, std::string_view name) {
  if (value.is(Kind::name_space)) {
    const Value* found = find_attribute(value.as<NamespaceObject>(), name);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  if (const Builtin* method = find_method(value.kind(), name))
    return std::optional<Value>(Value(rt.heap.make<MethodObject>(0, value, *method)));
  if (value.is(Kind::loop)) {
    QUERN_TRY(Value found, loop_attribute(rt, value.as<LoopObject>(), name));
    return found.given() ? std::optional<Value>(std::move(found)) : std::nullopt;
  }
  if (value.is(Kind::macro)) return macro_attribute(rt, value.as<MacroObject>().code, name);
  if (value.is(Kind::cycler) && name == "current") {
    const CyclerObject& cycler = value.as<CyclerObject>();
    return std::optional<Value>(cycler.items[cycler.position]);
  }
  if (value.is_integral() && (name == "real" || name == "numerator"))
    return std::optional<Value>(Value::integer(value.as_integer()));
  if (value.is_integral() && name == "denominator") return std::optional<Value>(Value::integer(1));
  if (value.is_integral() && name == "imag") return std::optional<Value>(Value::integer(0));
  if (value.is(Kind::floating) && name == "real") return std::optional<Value>(value);
  if (value.is(Kind::floating) && name == "imag") return std::optional<Value>(Value::floating(0));
  if (value.is(Kind::range)) {
    const RangeObject& range = value.as<RangeObject>();
    if (name == "start") return std::optional<Value>(Value::integer(range.start));
    if (name == "stop") return std::optional<Value>(Value::integer(range.stop));
    if (name == "step") return std::optional<Value>(Value::integer(range.step));
  }
  return std::optional<Value>();
}

Result<Value> loop_attribute(Runtime& rt, LoopObject& loop, std::string_view name) {
  const auto rest = [&]() -> Result<int64_t> {  // items still to come
    while (true) {
      QUERN_TRY(const bool more, loop.read_ahead());
      if (!more) return static_cast<int64_t>(loop.ahead.size() - loop.ahead_start);
    }
  };
  const auto peek = [&]() -> Result<bool> {
    return loop.ahead_start < loop.ahead.size() ? Result<bool>(true) : loop.read_ahead();
  };
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "previtem") return loop.index0 == 0 ? rt.undefined("there is no previous item") : loop.previous_item;
  if (name == "last" || name == "nextitem") {
    QUERN_TRY(const bool more, peek());
    if (name == "last") return Value::boolean(!more);
    return more ? loop.ahead[loop.ahead_start] : rt.undefined("there is no next item");
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    QUERN_TRY(const int64_t left, rest());
    return Value::integer(name == "length" ? loop.index0 + 1 + left : name == "revindex" ? left + 1 : left);
  }
  return Value();
}

std::string type_for_message(const Value& value) {
  if (value.is(Kind::none)) return "None";
  return fmt::format("'{} object'", type_name(value));
}

bool is_unsafe_name(std::string_view name) { return name.starts_with("_"); }

Value unsafe_attribute(Runtime& rt, const Value& value, std::string_view name) {
  return rt.undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(value)));
}

struct SliceBounds {
  int64_t start, stop, step, count;
};

Result<SliceBounds> slice_bounds(int64_t n, const Value& start, const Value& stop, const Value& step) {
  const auto integer_or = [](const Value& v, int64_t otherwise) -> Result<int64_t> {
    if (!v.given() || v.is(Kind::none)) return otherwise;
    QUERN_TRY_STATUS(check_defined(v));
    if (!v.is_integral()) return template_error("slice indices must be integers or None, not {}", type_name(v));
    return v.as_integer();
  };
  SliceBounds out{};
  QUERN_TRY(out.step, integer_or(step, 1));
  if (out.step == 0) return template_error("slice step cannot be zero");
  out.step = std::max(out.step, -std::numeric_limits<int64_t>::max());
  const int64_t lowest = out.step < 0 ? -1 : 0, highest = out.step < 0 ? n - 1 : n;
  const auto clamp = [&](int64_t i) { return i < 0 ? std::max(i + n, lowest) : std::min(i, highest); };
  QUERN_TRY(const int64_t from, integer_or(start, out.step < 0 ? std::numeric_limits<int64_t>::max() : 0));
  out.start = clamp(from);
  const bool has_stop = stop.given() && !stop.is(Kind::none);
  QUERN_TRY(const int64_t to, integer_or(stop, 0));
  out.stop = has_stop ? clamp(to) : (out.step < 0 ? -1 : n);
  if (out.step > 0)
    out.count = out.start < out.stop ? (out.stop - out.start - 1) / out.step + 1 : 0;
  else
    out.count = out.start > out.stop ? (out.start - out.stop - 1) / -out.step + 1 : 0;
  return out;
}

Result<Value> slice_string(Runtime& rt, const Value& value, const SliceBounds& b) {
  const Text& text = value.text();
  const bool markup = value.as<StringObject>().markup;
  QUERN_TRY_STATUS(rt.spend_bytes(text.size()));
  if (b.step == 1) {
    const size_t from = char_position(text.view(), static_cast<size_t>(b.start));
    const size_t to = from + char_position(text.view().substr(from), static_cast<size_t>(b.count));
    return rt.string(text.slice(from, to), markup);
  }
  std::vector<size_t> starts;
  starts.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); i += static_cast<size_t>(utf8_decode(text.view().substr(i)).length))
    starts.push_back(i);
  starts.push_back(text.size());
  Text out;
  for (int64_t k = 0, i = b.start; k < b.count; ++k, i += b.step)
    out.append(text, starts[static_cast<size_t>(i)], starts[static_cast<size_t>(i) + 1]);
  return rt.string(std::move(out), markup);
}

}  // namespace

const Value* find_attribute(const NamespaceObject& object, std::string_view name) {
  for (const auto& [key, value] : object.attributes)
    if (key == name) return &value;
  return nullptr;
}

Result<Value> get_attribute(Runtime& rt, const Value& value, const Text& name) {
  QUERN_TRY_STATUS(check_defined(value));
  QUERN_TRY(std::optional<Value> found, attribute_of(rt, value, name.view()));
  if (found) return *std::move(found);
  if (value.is(Kind::dict))
    if (const Value* item = find_string_key(value.as<DictObject>(), name.view())) return *item;
  if (is_unsafe_name(name.view())) return unsafe_attribute(rt, value, name.view());
  return rt.undefined(fmt::format("{} has no attribute '{}'", type_for_message(value), name.bytes()));
}

Result<Value> get_item(Runtime& rt, const Value& value, const Value& key) {
  QUERN_TRY_STATUS(check_defined(value));
  QUERN_TRY_STATUS(rt.spend(1));
  QUERN_TRY(std::optional<Value> found, item_of(rt, value, key));
  if (!found && key.is(Kind::string)) {
    QUERN_TRY(found, attribute_of(rt, value, key.view()));
    if (!found && is_unsafe_name(key.view()) && !value.is(Kind::dict)) return unsafe_attribute(rt, value, key.view());
  }
  if (found) return *std::move(found);
  if (key.is(Kind::string))
    return rt.undefined(fmt::format("{} has no attribute '{}'", type_for_message(value), key.view()));
  if (key.is(Kind::integer))
    return rt.undefined(fmt::format("{} object has no element {}", type_name(value), key.as_integer()));
  return rt.undefined(fmt::format("{} object has no element of type {}", type_name(value), type_name(key)));
}

Result<Value> get_slice(Runtime& rt, const Value& value, const Value& start, const Value& stop, const Value& step) {
  QUERN_TRY_STATUS(check_defined(value));
  const bool sliceable =
      value.is(Kind::string) || value.is(Kind::list) || value.is(Kind::tuple) || value.is(Kind::range);
  if (value.is(Kind::dict)) return template_error("unhashable type: 'slice'");
  if (!sliceable) return template_error("'{}' object is not subscriptable", type_name(value));
  QUERN_TRY(const int64_t n, length(value));
  QUERN_TRY(const SliceBounds b, slice_bounds(n, start, stop, step));
  if (value.is(Kind::string)) return slice_string(rt, value, b);
  if (value.is(Kind::range)) {
    const RangeObject& range = value.as<RangeObject>();
    const auto bound = [&](int64_t index, int64_t& out) {
      return __builtin_mul_overflow(index, range.step, &out) || __builtin_add_overflow(out, range.start, &out);
    };
    int64_t from = 0, to = 0, by = 0;
    if (bound(b.start, from) || bound(b.stop, to) || __builtin_mul_overflow(range.step, b.step, &by))
      return overflow_error();
    return Value(rt.heap.make<RangeObject>(0, from, to, by));
  }
  const Values& items = value.as<ListObject>().items;
  QUERN_TRY_STATUS(rt.reserve(b.count * static_cast<int64_t>(sizeof(Value))));
  Values out;
  out.reserve(static_cast<size_t>(b.count));
  for (int64_t k = 0, i = b.start; k < b.count; ++k, i += b.step) out.push_back(items[static_cast<size_t>(i)]);
  return rt.list(std::move(out), value.kind());
}

}  // namespace quern::jinja
