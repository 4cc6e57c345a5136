// SPDX-License-Identifier: Apache-2.0
// Equality, order and membership, and what rests on them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

/// Values nest (a list may even hold itself): walks count how deep they are.
constexpr int kMaxNesting = 200;

Error too_nested() { return template_error("values nested deeper than {}", kMaxNesting); }

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

}  // namespace

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

}  // namespace quern::jinja
