// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "quern/base/json.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/convert.h"
#include "quern/chat/jinja/format.h"
#include "quern/chat/jinja/numbers.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {
namespace {

Result<Value> default_value(Call& c) {
  QUERN_TRY(const bool also_false, truthy(c[1]));
  QUERN_TRY(const bool is_true, truthy(c.self));
  const bool replace = c.self.is(Kind::undefined) || (also_false && !is_true);
  if (!replace) return c.self;
  return c[0].given() ? c[0] : c.rt.string("");
}

Result<Value> integer_of_float(double d) {
  if (!std::isfinite(d)) return template_error("cannot convert float {} to integer", float_repr(d));
  if (std::abs(d) >= 9.2e18) return template_error("integers beyond 64 bits are not supported in arithmetic");
  return Value::integer(static_cast<int64_t>(d));
}

Result<Value> to_int(Call& c) {
  QUERN_TRY_STATUS(check_defined(c.self));
  const Value otherwise = c[0].given() ? c[0] : Value::integer(0);
  if (c.self.is_integral()) return Value::integer(c.self.as_integer());
  if (c.self.is(Kind::big_integer)) return c.self;
  if (c.self.is(Kind::floating))
    return std::isnan(c.self.as_floating()) ? Result<Value>(otherwise) : integer_of_float(c.self.as_floating());
  if (!c.self.is(Kind::string)) return otherwise;
  int64_t base = 10;
  if (c[1].given()) {
    QUERN_TRY(base, integer_argument(c[1], "base"));
  }
  if (base != 0 && (base < 2 || base > 36)) return otherwise;
  QUERN_TRY_STATUS(c.rt.spend_bytes(c.self.view().size()));
  if (auto value = parse_integer(c.rt, c.self.view(), static_cast<int>(base))) return *std::move(value);
  // "42.23" is 42.
  const auto number = parse_float(c.self.view());
  if (!number || !std::isfinite(*number)) return otherwise;
  return integer_of_float(*number);
}

Result<Value> to_float(Call& c) {
  QUERN_TRY_STATUS(check_defined(c.self));
  if (const auto d = as_double(c.self)) return Value::floating(*d);
  if (c.self.is(Kind::big_integer))
    return Value::floating(std::strtod(c.self.as<BigIntegerObject>().digits.c_str(), nullptr));
  if (c.self.is(Kind::string))
    if (const auto d = parse_float(c.self.view())) return Value::floating(*d);
  return c[0].given() ? c[0] : Value::floating(0);
}

Result<Value> absolute(Call& c) {
  QUERN_TRY_STATUS(check_defined(c.self));
  if (c.self.is_integral()) return negate(c.rt, c.self, c.self.as_integer() < 0);
  if (c.self.is(Kind::floating)) return Value::floating(std::abs(c.self.as_floating()));
  if (c.self.is(Kind::big_integer)) return negate(c.rt, c.self, c.self.as<BigIntegerObject>().digits.starts_with('-'));
  return template_error("bad operand type for abs(): '{}'", type_name(c.self));
}

/// Half to even at a power of ten, in integers.
Result<Value> round_integer(int64_t value, int64_t digits) {
  if (digits >= 0) return Value::integer(value);
  if (digits < -18) return Value::integer(0);
  int64_t unit = 1;
  for (int64_t i = 0; i < -digits; ++i) unit *= 10;
  int64_t down = value / unit, rest = value % unit;
  if (rest < 0) --down, rest += unit;
  const bool up = rest > unit - rest || (rest == unit - rest && down % 2 != 0);
  int64_t out = 0;
  if (__builtin_mul_overflow(down + (up ? 1 : 0), unit, &out))
    return template_error("integers beyond 64 bits are not supported in arithmetic");
  return Value::integer(out);
}

Result<Value> round(Call& c) {
  QUERN_TRY_STATUS(check_defined(c.self));
  int64_t precision = 0;
  if (c[0].given()) {
    QUERN_TRY(precision, integer_argument(c[0], "precision"));
  }
  QUERN_TRY(const std::string_view method,
            c[1].given() ? string_argument(c[1], "method") : Result<std::string_view>("common"));
  const auto number = as_double(c.self);
  if (!number) return template_error("type {} doesn't define __round__ method", type_name(c.self));
  if (method == "common") {
    if (c.self.is_integral()) return round_integer(c.self.as_integer(), precision);
    return Value::floating(round_decimals(*number, static_cast<int>(std::clamp<int64_t>(precision, -400, 400))));
  }
  if (method != "ceil" && method != "floor") return template_error("method must be common, ceil or floor");
  if (!std::isfinite(*number)) return template_error("cannot convert float {} to integer", float_repr(*number));
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = method == "ceil" ? std::ceil(*number * unit) : std::floor(*number * unit);
  const double result = scaled / unit;
  if (!std::isfinite(result)) return template_error("round: the precision {} is out of range", precision);
  return Value::floating(result == 0 ? 0.0 : result);
}

Result<Value> tojson(Call& c) {
  JsonStyle style;
  QUERN_TRY(style.ascii, truthy(c[0]));
  if (c[1].given() && !c[1].is(Kind::none)) {
    style.one_line = false;
    style.item_separator = ",";
    if (c[1].is(Kind::string)) {
      if (c[1].text().has_user()) return template_error("tojson: indent must not be user text");
      style.indent = c[1].view();
    } else {
      QUERN_TRY(const int64_t width, integer_argument(c[1], "indent"));
      if (width > 1000) return template_error("tojson: indent {} is more than 1000", width);
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (c[2].given() && !c[2].is(Kind::none)) {
    QUERN_TRY(const Values pair, iterate(c.rt, c[2]));
    if (pair.size() != 2) return template_error("tojson: separators must be two, found {}", pair.size());
    QUERN_TRY(style.item_separator, string_argument(pair[0], "separators"));
    QUERN_TRY(style.key_separator, string_argument(pair[1], "separators"));
    if (pair[0].text().has_user() || pair[1].text().has_user())
      return template_error("tojson: separators must not be user text");
  }
  QUERN_TRY(style.sort_keys, truthy(c[3]));
  Text out;
  QUERN_TRY_STATUS(append_json(c.rt, c.self, style, out));
  return c.rt.string(std::move(out));
}

/// Not in Jinja2; other runtimes of chat templates have it. What it reads keeps the writer of its text.
Result<Value> from_json(Call& c) {
  QUERN_TRY(const std::string_view text, string_argument(c.self, "from_json"));
  QUERN_TRY_STATUS(c.rt.reserve(static_cast<int64_t>(text.size()) * 8));
  QUERN_TRY(const Json json, Json::parse(text));
  return from_json_value(c.rt, json, c.self.text().has_user());
}

Result<Value> attr(Call& c) {
  QUERN_TRY(const std::string_view name, string_argument(c[0], "name"));
  QUERN_TRY_STATUS(check_defined(c.self));
  // Attributes of the type only: the items of a dict do not count.
  if (c.self.is(Kind::dict) && !find_method(Kind::dict, name))
    return c.rt.undefined(fmt::format("'dict object' has no attribute '{}'", name));
  return get_attribute(c.rt, c.self, Text(std::string(name)));
}

constexpr Builtin kTable[] = {
    {"abs", "", absolute},
    {"attr", "name!", attr},
    {"d", "default_value boolean", default_value},
    {"default", "default_value boolean", default_value},
    {"float", "default", to_float},
    {"from_json", "", from_json},
    {"int", "default base", to_int},
    {"round", "precision method", round},
    {"tojson", "ensure_ascii indent separators sort_keys", tojson},
};

}  // namespace

std::span<const Builtin> value_filters() { return kTable; }

}  // namespace quern::jinja
