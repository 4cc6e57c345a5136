// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/operations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/format.h"

namespace quern::jinja {
namespace {

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

Error operand_error(BinaryOp op, const Value& a, const Value& b) {
  return template_error("unsupported operand type(s) for {}: '{}' and '{}'", op_symbol(op), type_name(a), type_name(b));
}

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

}  // namespace

Error overflow_error() { return template_error("integers beyond 64 bits are not supported in arithmetic"); }

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
        out.push_back(rt.string(text.slice(i, i + step)));
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
