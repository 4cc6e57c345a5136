// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/operations.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/format.h"

namespace quern::jinja {
namespace {

/// Values nest (a list may even hold itself): walks count how deep they are.
constexpr int kMaxNesting = 200;

Error too_nested() { return template_error("values nested deeper than {}", kMaxNesting); }

std::string_view op_symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return "+";
    case BinaryOp::subtract:
      return "-";
    case BinaryOp::multiply:
      return "*";
    case BinaryOp::divide:
      return "/";
    case BinaryOp::floor_divide:
      return "//";
    case BinaryOp::modulo:
      return "%";
    case BinaryOp::power:
      return "** or pow()";
  }
  return "?";
}

std::string_view op_symbol(CompareOp op) {
  switch (op) {
    case CompareOp::less:
      return "<";
    case CompareOp::less_equal:
      return "<=";
    case CompareOp::greater:
      return ">";
    case CompareOp::greater_equal:
      return ">=";
    default:
      return "==";
  }
}

Error operand_error(BinaryOp op, const Value& a, const Value& b) {
  return template_error("unsupported operand type(s) for {}: '{}' and '{}'", op_symbol(op), type_name(a), type_name(b));
}

Error overflow_error() { return template_error("integers beyond 64 bits are not supported in arithmetic"); }

// Digits of equal sign and length compare like the numbers.
int compare_digits(std::string_view a, std::string_view b) {
  const bool a_negative = a.starts_with('-'), b_negative = b.starts_with('-');
  if (a_negative != b_negative) return a_negative ? -1 : 1;
  const int sign = a_negative ? -1 : 1;
  if (a.size() != b.size()) return a.size() < b.size() ? -sign : sign;
  return sign * a.compare(b);
}

bool is_exact_integer(const Value& v) { return v.is_integral() || v.is(Kind::big_integer); }

std::string digits_of(const Value& v) {
  return v.is(Kind::big_integer) ? v.as<BigIntegerObject>().digits : fmt::to_string(v.as_integer());
}

/// -1, 0, 1; 2 where one of them is not a number.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_integer() < b.as_integer() ? -1 : a.as_integer() > b.as_integer();
  if (is_exact_integer(a) && is_exact_integer(b)) {
    const int order = compare_digits(digits_of(a), digits_of(b));
    return order < 0 ? -1 : order > 0;
  }
  const auto wide = [](const Value& v) -> long double {
    if (v.is_integral()) return static_cast<long double>(v.as_integer());
    if (v.is(Kind::floating)) return v.as_floating();
    return std::strtold(v.as<BigIntegerObject>().digits.c_str(), nullptr);
  };
  const long double x = wide(a), y = wide(b);
  if (std::isnan(x) || std::isnan(y)) return 2;
  return x < y ? -1 : x > y;
}

Result<bool> equal_at(Runtime& rt, const Value& a, const Value& b, int depth);

Result<bool> equal_items(Runtime& rt, const Values& a, const Values& b, int depth) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    QUERN_TRY(const bool same, equal_at(rt, a[i], b[i], depth + 1));
    if (!same) return false;
  }
  return true;
}

Result<bool> equal_dicts(Runtime& rt, const DictObject& a, const DictObject& b, int depth) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    QUERN_TRY(const auto place, find_key(rt, b, key));
    if (!place) return false;
    QUERN_TRY(const bool same, equal_at(rt, value, b.entries[*place].second, depth + 1));
    if (!same) return false;
  }
  return true;
}

bool equal_ranges(const RangeObject& a, const RangeObject& b) {
  const int64_t n = a.length();
  return n == b.length() && (n == 0 || (a.start == b.start && (n == 1 || a.step == b.step)));
}

Result<bool> equal_at(Runtime& rt, const Value& a, const Value& b, int depth) {
  QUERN_TRY_STATUS(rt.spend(1));
  if (depth > kMaxNesting) return too_nested();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::none:
    case Kind::undefined:
      return true;
    case Kind::string:
    case Kind::bytes:
      QUERN_TRY_STATUS(rt.spend(static_cast<int64_t>(std::min(a.view().size(), b.view().size()) / 1024)));
      return a.view() == b.view();
    case Kind::list:
    case Kind::tuple:
      if (a.object() == b.object()) return true;
      return equal_items(rt, a.as<ListObject>().items, b.as<ListObject>().items, depth);
    case Kind::dict:
      if (a.object() == b.object()) return true;
      return equal_dicts(rt, a.as<DictObject>(), b.as<DictObject>(), depth);
    case Kind::range:
      return equal_ranges(a.as<RangeObject>(), b.as<RangeObject>());
    default:
      return a.object() == b.object();
  }
}

Result<bool> less_at(Runtime& rt, CompareOp op, const Value& a, const Value& b, int depth);

bool holds(CompareOp op, int order) {
  switch (op) {
    case CompareOp::less:
      return order < 0;
    case CompareOp::less_equal:
      return order <= 0;
    case CompareOp::greater:
      return order == 1;
    case CompareOp::greater_equal:
      return order == 0 || order == 1;
    default:
      return false;
  }
}

Result<bool> compare_sequences(Runtime& rt, CompareOp op, const Values& a, const Values& b, int depth) {
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    QUERN_TRY(const bool same, equal_at(rt, a[i], b[i], depth + 1));
    if (!same) return less_at(rt, op, a[i], b[i], depth + 1);
  }
  return holds(op, a.size() < b.size() ? -1 : a.size() > b.size());
}

Result<bool> less_at(Runtime& rt, CompareOp op, const Value& a, const Value& b, int depth) {
  QUERN_TRY_STATUS(rt.spend(1));
  if (depth > kMaxNesting) return too_nested();
  if (a.is_number() && b.is_number()) {
    const int order = compare_numbers(a, b);
    return order != 2 && holds(op, order);
  }
  QUERN_TRY_STATUS(check_defined(a));
  QUERN_TRY_STATUS(check_defined(b));
  if (a.kind() == b.kind()) {
    // The order of UTF-8 bytes is the order of code points.
    if (a.is(Kind::string) || a.is(Kind::bytes)) {
      const int order = a.view().compare(b.view());
      return holds(op, order < 0 ? -1 : order > 0);
    }
    if (a.is(Kind::list) || a.is(Kind::tuple))
      return compare_sequences(rt, op, a.as<ListObject>().items, b.as<ListObject>().items, depth);
  }
  return template_error("'{}' not supported between instances of '{}' and '{}'", op_symbol(op), type_name(a),
                        type_name(b));
}

// Hashing, as equality needs it: equal numbers of any type are one key.

Result<size_t> hash_at(const Value& v, int depth) {
  if (depth > kMaxNesting) return too_nested();
  switch (v.kind()) {
    case Kind::none:
      return size_t{0x9E3779B9};
    case Kind::undefined:
      return size_t{0x51ED270B};
    case Kind::boolean:
    case Kind::integer:
      return std::hash<int64_t>()(v.as_integer());
    case Kind::floating: {
      const double d = v.as_floating();
      if (d == std::floor(d) && std::abs(d) < 9.2e18) return std::hash<int64_t>()(static_cast<int64_t>(d));
      return std::hash<double>()(d);
    }
    case Kind::big_integer:
      return std::hash<double>()(std::strtod(v.as<BigIntegerObject>().digits.c_str(), nullptr));
    case Kind::string:
    case Kind::bytes:
      return std::hash<std::string_view>()(v.view());
    case Kind::tuple: {
      size_t seed = 0x345678;
      for (const Value& item : v.as<ListObject>().items) {
        QUERN_TRY(const size_t h, hash_at(item, depth + 1));
        seed = (seed ^ h) * 1000003 + 97531;
      }
      return seed;
    }
    case Kind::list:
    case Kind::dict:
    case Kind::view:
    case Kind::name_space:
      return template_error("unhashable type: '{}'", type_name(v));
    default:
      return std::hash<const void*>()(v.object());
  }
}

constexpr size_t kIndexFrom = 9;  // fewer entries are searched one by one

// Arithmetic.

Result<Value> integer_arithmetic(BinaryOp op, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (op) {
    case BinaryOp::add:
      if (__builtin_add_overflow(a, b, &out)) return overflow_error();
      return Value::integer(out);
    case BinaryOp::subtract:
      if (__builtin_sub_overflow(a, b, &out)) return overflow_error();
      return Value::integer(out);
    case BinaryOp::multiply:
      if (__builtin_mul_overflow(a, b, &out)) return overflow_error();
      return Value::integer(out);
    case BinaryOp::divide:
      if (b == 0) return template_error("division by zero");
      return Value::floating(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::floor_divide:
    case BinaryOp::modulo: {
      if (b == 0) return template_error("integer division or modulo by zero");
      if (b == -1) return op == BinaryOp::modulo ? Value::integer(0) : integer_arithmetic(BinaryOp::subtract, 0, a);
      int64_t quotient = a / b, rest = a % b;
      if (rest != 0 && (rest < 0) != (b < 0)) --quotient, rest += b;
      return Value::integer(op == BinaryOp::modulo ? rest : quotient);
    }
    case BinaryOp::power: {
      if (b < 0) {
        if (a == 0) return template_error("0.0 cannot be raised to a negative power");
        return Value::floating(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      int64_t result = 1, base = a;
      for (int64_t e = b; e > 0; e >>= 1) {
        if ((e & 1) && __builtin_mul_overflow(result, base, &result)) return overflow_error();
        if (e > 1 && __builtin_mul_overflow(base, base, &base)) return overflow_error();
      }
      return Value::integer(result);
    }
  }
  return Value();
}

Result<Value> float_arithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add:
      return Value::floating(a + b);
    case BinaryOp::subtract:
      return Value::floating(a - b);
    case BinaryOp::multiply:
      return Value::floating(a * b);
    case BinaryOp::divide:
      if (b == 0) return template_error("float division by zero");
      return Value::floating(a / b);
    case BinaryOp::floor_divide:
    case BinaryOp::modulo: {
      if (b == 0) return template_error("float floor division by zero");
      double rest = std::fmod(a, b);
      double quotient = (a - rest) / b;
      if (rest != 0) {
        if ((b < 0) != (rest < 0)) rest += b, quotient -= 1;
      } else {
        rest = std::copysign(0.0, b);
      }
      if (op == BinaryOp::modulo) return Value::floating(rest);
      if (quotient == 0) return Value::floating(std::copysign(0.0, a / b));
      double floored = std::floor(quotient);
      if (quotient - floored > 0.5) floored += 1;
      return Value::floating(floored);
    }
    case BinaryOp::power: {
      if (a == 0 && b < 0) return template_error("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b))
        return template_error("complex numbers are not supported");
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
        return template_error("the result of ** is too large");
      return Value::floating(result);
    }
  }
  return Value();
}

Result<Value> repeat(Runtime& rt, const Value& sequence, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const auto total = [&](size_t one, int64_t unit) {
    int64_t bytes = 0;
    return __builtin_mul_overflow(static_cast<int64_t>(one) * unit, times, &bytes) ? int64_t{-1} : bytes;
  };
  if (sequence.is(Kind::string)) {
    const StringObject& s = sequence.as<StringObject>();
    // Each switch of writer costs as much as text: count what the copy will need, not only its letters.
    QUERN_TRY_STATUS(rt.reserve(total(s.text.memory_bytes(), 1)));
    Text out;
    for (int64_t i = 0; i < times && !s.text.empty(); ++i) out.append(s.text);
    return rt.string(std::move(out), s.markup);
  }
  const Values& items = sequence.as<ListObject>().items;
  QUERN_TRY_STATUS(rt.reserve(total(items.size(), sizeof(Value))));
  Values out;
  if (!items.empty())
    for (int64_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  return rt.list(std::move(out), sequence.kind());
}

Result<Value> add_strings(Runtime& rt, const Value& a, const Value& b) {
  QUERN_TRY_STATUS(rt.reserve(static_cast<int64_t>(a.view().size() + b.view().size())));
  const bool markup = a.as<StringObject>().markup || b.as<StringObject>().markup;
  Text out = markup ? escaped(a) : a.text();
  out.append(markup ? escaped(b) : b.text());
  return rt.string(std::move(out), markup);
}

bool is_repeatable(const Value& v) { return v.is(Kind::string) || v.is(Kind::list) || v.is(Kind::tuple); }

// Items and attributes.

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
    const auto hash = hash_at(key, 0);
    if (!hash) return std::optional<Value>();  // Python's TypeError, which Jinja2 takes for "not there"
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

}  // namespace

Status check_defined(const Value& value) {
  if (value.is(Kind::undefined)) return Error{ErrorCode::invalid_argument, value.as<UndefinedObject>().message};
  return {};
}

Result<bool> truthy(const Value& v) {
  switch (v.kind()) {
    case Kind::missing:
    case Kind::none:
    case Kind::undefined:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return v.as_integer() != 0;
    case Kind::floating:
      return v.as_floating() != 0;
    case Kind::string:
    case Kind::bytes:
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::range:
    case Kind::view: {
      QUERN_TRY(const int64_t n, length(v));
      return n != 0;
    }
    default:
      return true;
  }
}

Result<bool> equal(Runtime& rt, const Value& a, const Value& b) { return equal_at(rt, a, b, 0); }

Result<bool> compare(Runtime& rt, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::equal:
      return equal(rt, a, b);
    case CompareOp::not_equal: {
      QUERN_TRY(const bool same, equal(rt, a, b));
      return !same;
    }
    case CompareOp::in:
      return contains(rt, b, a);
    case CompareOp::not_in: {
      QUERN_TRY(const bool there, contains(rt, b, a));
      return !there;
    }
    default:
      return less_at(rt, op, a, b, 0);
  }
}

Result<bool> contains(Runtime& rt, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::undefined:
      return false;
    case Kind::string:
      if (!item.is(Kind::string))
        return template_error("'in <string>' requires string as left operand, not {}", type_name(item));
      QUERN_TRY_STATUS(rt.spend_bytes(container.view().size()));
      // memmem, unlike string::find, takes linear time on any input.
      return item.view().empty() || memmem(container.view().data(), container.view().size(), item.view().data(),
                                           item.view().size()) != nullptr;
    case Kind::dict: {
      QUERN_TRY(const auto place, find_key(rt, container.as<DictObject>(), item));
      return place.has_value();
    }
    case Kind::view:
      if (container.as<ViewObject>().part == ViewObject::Part::keys)
        return contains(rt, container.as<ViewObject>().dict, item);
      break;
    case Kind::list:
    case Kind::tuple:
      for (const Value& candidate : container.as<ListObject>().items) {
        QUERN_TRY(const bool same, equal(rt, candidate, item));
        if (same) return true;
      }
      return false;
    case Kind::range:
    case Kind::generator:
      break;
    default:
      return template_error("argument of type '{}' is not iterable", type_name(container));
  }
  QUERN_TRY(const Values items, iterate(rt, container));
  for (const Value& candidate : items) {
    QUERN_TRY(const bool same, equal(rt, candidate, item));
    if (same) return true;
  }
  return false;
}

std::optional<double> as_double(const Value& v) {
  if (v.is_integral()) return static_cast<double>(v.as_integer());
  if (v.is(Kind::floating)) return v.as_floating();
  return std::nullopt;
}

Result<Value> arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b) {
  QUERN_TRY_STATUS(rt.spend(1));
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.as_integer(), b.as_integer());
  if (const auto x = as_double(a), y = as_double(b); x && y) return float_arithmetic(op, *x, *y);
  QUERN_TRY_STATUS(check_defined(a));
  if (op == BinaryOp::modulo && a.is(Kind::string)) return percent_format(rt, a, b);
  QUERN_TRY_STATUS(check_defined(b));
  if (a.is(Kind::big_integer) || b.is(Kind::big_integer))
    if (a.is_number() && b.is_number()) return overflow_error();
  if (op == BinaryOp::add && a.kind() == b.kind()) {
    if (a.is(Kind::string)) return add_strings(rt, a, b);
    if (a.is(Kind::list) || a.is(Kind::tuple)) {
      const Values &x = a.as<ListObject>().items, &y = b.as<ListObject>().items;
      QUERN_TRY_STATUS(rt.reserve(static_cast<int64_t>((x.size() + y.size()) * sizeof(Value))));
      Values out = x;
      out.insert(out.end(), y.begin(), y.end());
      return rt.list(std::move(out), a.kind());
    }
  }
  if (op == BinaryOp::add && a.is(Kind::string))
    return template_error("can only concatenate str (not \"{}\") to str", type_name(b));
  if (op == BinaryOp::multiply && is_repeatable(a) && b.is_integral()) return repeat(rt, a, b.as_integer());
  if (op == BinaryOp::multiply && is_repeatable(b) && a.is_integral()) return repeat(rt, b, a.as_integer());
  return operand_error(op, a, b);
}

Result<Value> negate(Runtime& rt, const Value& v, bool minus) {
  QUERN_TRY_STATUS(rt.spend(1));
  if (v.is_integral())
    return minus ? integer_arithmetic(BinaryOp::subtract, 0, v.as_integer()) : Value::integer(v.as_integer());
  if (v.is(Kind::floating)) return minus ? Value::floating(-v.as_floating()) : v;
  QUERN_TRY_STATUS(check_defined(v));
  if (v.is(Kind::big_integer)) {
    if (!minus) return v;
    const std::string& digits = v.as<BigIntegerObject>().digits;
    std::string negated = digits.starts_with('-') ? digits.substr(1) : "-" + digits;
    if (negated == "-9223372036854775808") return Value::integer(std::numeric_limits<int64_t>::min());
    return Value(rt.heap.make<BigIntegerObject>(static_cast<int64_t>(negated.size()), std::move(negated)));
  }
  return template_error("bad operand type for unary {}: '{}'", minus ? '-' : '+', type_name(v));
}

Result<int64_t> length(const Value& v) {
  switch (v.kind()) {
    case Kind::undefined:
      return int64_t{0};
    case Kind::string:
      return static_cast<int64_t>(v.as<StringObject>().chars());
    case Kind::bytes:
      return static_cast<int64_t>(v.view().size());
    case Kind::list:
    case Kind::tuple:
      return static_cast<int64_t>(v.as<ListObject>().items.size());
    case Kind::dict:
      return static_cast<int64_t>(v.as<DictObject>().entries.size());
    case Kind::range:
      return v.as<RangeObject>().length();
    case Kind::view:
      return length(v.as<ViewObject>().dict);
    case Kind::loop: {
      // What is ahead has to be read to be counted.
      auto& loop = v.as<LoopObject>();
      while (true) {
        QUERN_TRY(const bool more, loop.read_ahead());
        if (!more) return loop.index0 + 1 + static_cast<int64_t>(loop.ahead.size() - loop.ahead_start);
      }
    }
    default:
      return template_error("object of type '{}' has no len()", type_name(v));
  }
}

Result<Values> iterate(Runtime& rt, const Value& v) {
  Values out;
  switch (v.kind()) {
    case Kind::undefined:
      return out;
    case Kind::string: {
      const Text& text = v.text();
      const size_t n = v.as<StringObject>().chars();
      QUERN_TRY_STATUS(rt.reserve(static_cast<int64_t>(n * (sizeof(Value) + sizeof(StringObject) + 32))));
      out.reserve(n);
      for (size_t i = 0; i < text.size();) {
        const auto step = static_cast<size_t>(utf8_decode(text.view().substr(i)).length);
        out.push_back(rt.string(text.slice(i, i + step), v.as<StringObject>().markup));
        i += step;
      }
      return out;
    }
    case Kind::list:
    case Kind::tuple: {
      const Values& items = v.as<ListObject>().items;
      QUERN_TRY_STATUS(rt.reserve(static_cast<int64_t>(items.size() * sizeof(Value))));
      return items;
    }
    case Kind::generator:
      return std::exchange(v.as<ListObject>().items, {});
    case Kind::dict:
    case Kind::view: {
      const bool is_view = v.is(Kind::view);
      const auto part = is_view ? v.as<ViewObject>().part : ViewObject::Part::keys;
      const auto& entries = (is_view ? v.as<ViewObject>().dict : v).as<DictObject>().entries;
      QUERN_TRY_STATUS(
          rt.reserve(static_cast<int64_t>(entries.size() * (part == ViewObject::Part::items ? 160 : sizeof(Value)))));
      out.reserve(entries.size());
      for (const auto& [key, value] : entries) {
        if (part == ViewObject::Part::items)
          out.push_back(rt.tuple({key, value}));
        else
          out.push_back(part == ViewObject::Part::keys ? key : value);
      }
      return out;
    }
    case Kind::range: {
      const RangeObject& range = v.as<RangeObject>();
      const int64_t n = range.length();
      if (n > rt.limits.max_memory_bytes) return rt.reserve(-1).error();
      QUERN_TRY_STATUS(rt.reserve(n * static_cast<int64_t>(sizeof(Value))));
      out.reserve(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) out.push_back(Value::integer(range.start + i * range.step));
      return out;
    }
    case Kind::bytes:
      for (const char c : v.view()) out.push_back(Value::integer(static_cast<uint8_t>(c)));
      return out;
    case Kind::loop:
      return template_error("iterating over a loop object is not supported");
    default:
      return template_error("'{}' object is not iterable", type_name(v));
  }
}

Value generator(Runtime& rt, Values items) { return rt.list(std::move(items), Kind::generator); }

Result<std::optional<size_t>> find_key(Runtime& rt, const DictObject& dict, const Value& key) {
  QUERN_TRY(const size_t hash, hash_at(key, 0));
  if (dict.index.empty()) {
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      QUERN_TRY(const bool same, equal(rt, dict.entries[i].first, key));
      if (same) return std::optional<size_t>(i);
    }
    return std::optional<size_t>();
  }
  const auto [from, to] = dict.index.equal_range(hash);
  for (auto it = from; it != to; ++it) {
    QUERN_TRY(const bool same, equal(rt, dict.entries[it->second].first, key));
    if (same) return std::optional<size_t>(it->second);
  }
  return std::optional<size_t>();
}

Status set_key(Runtime& rt, DictObject& dict, const Value& key, Value value) {
  QUERN_TRY(const auto place, find_key(rt, dict, key));
  if (place) {
    dict.entries[*place].second = std::move(value);
    return {};
  }
  dict.entries.emplace_back(key, std::move(value));
  rt.heap.charge(dict, 80);
  const auto index_one = [&](size_t i) -> Status {
    QUERN_TRY(const size_t hash, hash_at(dict.entries[i].first, 0));
    dict.index.emplace(hash, static_cast<uint32_t>(i));
    return {};
  };
  if (!dict.index.empty()) return index_one(dict.entries.size() - 1);
  if (dict.entries.size() >= kIndexFrom)
    for (size_t i = 0; i < dict.entries.size(); ++i) QUERN_TRY_STATUS(index_one(i));
  return rt.spend(1);
}

Status add_entries(Runtime& rt, DictObject& dict, const Value& source) {
  QUERN_TRY_STATUS(check_defined(source));
  if (source.is(Kind::dict)) {
    const auto entries = source.as<DictObject>().entries;  // a copy: it may be the same dict
    QUERN_TRY_STATUS(rt.spend(static_cast<int64_t>(entries.size())));
    for (const auto& [key, value] : entries) QUERN_TRY_STATUS(set_key(rt, dict, key, value));
    return {};
  }
  QUERN_TRY(const Values pairs, iterate(rt, source));
  for (const Value& pair : pairs) {
    QUERN_TRY(const Values both, iterate(rt, pair));
    if (both.size() != 2)
      return template_error("dictionary update sequence element has length {}; 2 is required", both.size());
    QUERN_TRY_STATUS(set_key(rt, dict, both[0], both[1]));
  }
  return {};
}

void erase_entry(DictObject& dict, size_t place) {
  // Moved out first: letting go of a value may free others, but never this dict.
  const auto dead = std::move(dict.entries[place]);
  dict.entries.erase(dict.entries.begin() + static_cast<ptrdiff_t>(place));
  if (dict.index.empty()) return;
  dict.index.clear();
  for (size_t i = 0; i < dict.entries.size(); ++i)
    if (const auto hash = hash_at(dict.entries[i].first, 0)) dict.index.emplace(*hash, static_cast<uint32_t>(i));
}

const Value* find_string_key(const DictObject& dict, std::string_view key) {
  const auto is_key = [&](const Value& candidate) { return candidate.is(Kind::string) && candidate.view() == key; };
  if (dict.index.empty()) {
    for (const auto& [candidate, value] : dict.entries)
      if (is_key(candidate)) return &value;
    return nullptr;
  }
  const auto [from, to] = dict.index.equal_range(std::hash<std::string_view>()(key));
  for (auto it = from; it != to; ++it)
    if (is_key(dict.entries[it->second].first)) return &dict.entries[it->second].second;
  return nullptr;
}

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

namespace {

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

Status sort_by(Runtime& rt, Values& items, const Values& keys, bool reverse) {
  // Merge sort of our own: the library's may run wild when a comparison fails or is inconsistent (NaN).
  std::vector<uint32_t> order(items.size()), merged(items.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t width = 1; width < order.size(); width *= 2) {
    for (size_t left = 0; left < order.size(); left += 2 * width) {
      const size_t middle = std::min(left + width, order.size()), right = std::min(left + 2 * width, order.size());
      size_t a = left, b = middle;
      for (size_t out = left; out < right; ++out) {
        bool take_right = a == middle;
        if (a < middle && b < right) {
          // Stable in either direction: the right one only where it must come first.
          const Value &x = keys[order[a]], &y = keys[order[b]];
          QUERN_TRY(take_right, reverse ? compare(rt, CompareOp::less, x, y) : compare(rt, CompareOp::less, y, x));
        }
        merged[out] = take_right ? order[b++] : order[a++];
      }
    }
    order.swap(merged);
  }
  Values sorted;
  sorted.reserve(items.size());
  for (const uint32_t i : order) sorted.push_back(std::move(items[i]));
  items = std::move(sorted);
  return {};
}

Text escaped(const Value& string) {
  if (string.as<StringObject>().markup) return string.text();
  Text out;
  string.text().for_each_run([&](std::string_view run, bool user) {
    std::string piece;
    for (const char c : run) {
      switch (c) {
        case '&':
          piece += "&amp;";
          break;
        case '<':
          piece += "&lt;";
          break;
        case '>':
          piece += "&gt;";
          break;
        case '\'':
          piece += "&#39;";
          break;
        case '"':
          piece += "&#34;";
          break;
        default:
          piece += c;
      }
    }
    out.append(piece, user);
  });
  return out;
}

}  // namespace quern::jinja
