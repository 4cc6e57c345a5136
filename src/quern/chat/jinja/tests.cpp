// SPDX-License-Identifier: Apache-2.0
#include "quern/base/utf8.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"
#include "quern/chat/jinja/string_operations.h"

namespace quern::jinja {
namespace {

Value yes_if(bool condition) { return Value::boolean(condition); }

template <Kind kind>
Result<Value> is_kind(Call& c) {
  return yes_if(c.self.is(kind));
}

Result<Value> is_defined(Call& c) { return yes_if(!c.self.is(Kind::undefined)); }
Result<Value> is_true(Call& c) { return yes_if(c.self.is(Kind::boolean) && c.self.as_bool()); }
Result<Value> is_false(Call& c) { return yes_if(c.self.is(Kind::boolean) && !c.self.as_bool()); }
Result<Value> is_integer(Call& c) { return yes_if(c.self.is(Kind::integer) || c.self.is(Kind::big_integer)); }
Result<Value> is_number(Call& c) { return yes_if(c.self.is_number()); }
Result<Value> is_callable(Call& c) {
  // The loop variable is only callable in recursive loops, but its type always is.
  return yes_if(c.self.is_callable());
}

Result<Value> is_sequence(Call& c) {
  switch (c.self.kind()) {
    case Kind::undefined:
    case Kind::string:
    case Kind::bytes:
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::range:
      return yes_if(true);
    default:
      return yes_if(false);
  }
}

Result<Value> is_iterable(Call& c) {
  switch (c.self.kind()) {
    case Kind::undefined:
    case Kind::string:
    case Kind::bytes:
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::range:
    case Kind::view:
    case Kind::generator:
    case Kind::loop:
      return yes_if(true);
    default:
      return yes_if(false);
  }
}

Result<Value> is_same(Call& c) {
  const Value &a = c.self, &b = c[0];
  if (a.kind() != b.kind()) return yes_if(false);
  switch (a.kind()) {
    case Kind::none:
      return yes_if(true);
    case Kind::boolean:
    case Kind::integer:
      return yes_if(a.as_integer() == b.as_integer());
    case Kind::string:
      return yes_if(a.view() == b.view());
    case Kind::floating:
      return yes_if(false);
    default:
      return yes_if(a.object() == b.object());
  }
}

Result<Value> is_escaped(Call& c) { return yes_if(c.self.is(Kind::string) && c.self.as<StringObject>().markup); }

/// All cased characters of one case, and at least one of them.
Result<Value> has_case(Call& c, bool (*wanted)(char32_t)) {
  QUERN_TRY(const Value text, to_string(c.rt, c.self));
  QUERN_TRY_STATUS(c.rt.spend_bytes(text.view().size()));
  bool any = false;
  for (std::string_view rest = text.view(); !rest.empty();) {
    const Utf8Step step = utf8_decode(rest);
    rest.remove_prefix(static_cast<size_t>(step.length));
    if (!is_cased(step.code_point)) continue;
    if (!wanted(step.code_point)) return yes_if(false);
    any = true;
  }
  return yes_if(any);
}
Result<Value> is_lower_text(Call& c) { return has_case(c, is_lower); }
Result<Value> is_upper_text(Call& c) { return has_case(c, is_upper); }

Result<bool> remainder_is(Call& c, const Value& divisor, int64_t wanted) {
  QUERN_TRY(const Value rest, arithmetic(c.rt, BinaryOp::modulo, c.self, divisor));
  return equal(c.rt, rest, Value::integer(wanted));
}
Result<Value> is_odd(Call& c) {
  QUERN_TRY(const bool odd, remainder_is(c, Value::integer(2), 1));
  return yes_if(odd);
}
Result<Value> is_even(Call& c) {
  QUERN_TRY(const bool even, remainder_is(c, Value::integer(2), 0));
  return yes_if(even);
}
Result<Value> is_divisible(Call& c) {
  QUERN_TRY(const bool divisible, remainder_is(c, c[0], 0));
  return yes_if(divisible);
}

template <CompareOp op>
Result<Value> compares(Call& c) {
  QUERN_TRY(const bool result, compare(c.rt, op, c.self, c[0]));
  return yes_if(result);
}

Result<Value> is_filter(Call& c) { return yes_if(c.self.is(Kind::string) && find_filter(c.self.view())); }
Result<Value> is_test(Call& c) { return yes_if(c.self.is(Kind::string) && find_test(c.self.view())); }

constexpr Builtin kTable[] = {
    {"!=", "other!", compares<CompareOp::not_equal>},
    {"<", "other!", compares<CompareOp::less>},
    {"<=", "other!", compares<CompareOp::less_equal>},
    {"==", "other!", compares<CompareOp::equal>},
    {">", "other!", compares<CompareOp::greater>},
    {">=", "other!", compares<CompareOp::greater_equal>},
    {"boolean", "", is_kind<Kind::boolean>},
    {"callable", "", is_callable},
    {"defined", "", is_defined},
    {"divisibleby", "num!", is_divisible},
    {"eq", "other!", compares<CompareOp::equal>},
    {"equalto", "other!", compares<CompareOp::equal>},
    {"escaped", "", is_escaped},
    {"even", "", is_even},
    {"false", "", is_false},
    {"filter", "", is_filter},
    {"float", "", is_kind<Kind::floating>},
    {"ge", "other!", compares<CompareOp::greater_equal>},
    {"greaterthan", "other!", compares<CompareOp::greater>},
    {"gt", "other!", compares<CompareOp::greater>},
    {"in", "seq!", compares<CompareOp::in>},
    {"integer", "", is_integer},
    {"iterable", "", is_iterable},
    {"le", "other!", compares<CompareOp::less_equal>},
    {"lessthan", "other!", compares<CompareOp::less>},
    {"lower", "", is_lower_text},
    {"lt", "other!", compares<CompareOp::less>},
    {"mapping", "", is_kind<Kind::dict>},
    {"ne", "other!", compares<CompareOp::not_equal>},
    {"none", "", is_kind<Kind::none>},
    {"number", "", is_number},
    {"odd", "", is_odd},
    {"sameas", "other!", is_same},
    {"sequence", "", is_sequence},
    {"string", "", is_kind<Kind::string>},
    {"test", "", is_test},
    {"true", "", is_true},
    {"undefined", "", is_kind<Kind::undefined>},
    {"upper", "", is_upper_text},
};

}  // namespace

std::span<const Builtin> tests() { return kTable; }

}  // namespace quern::jinja
