// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"
#include "quern/chat/jinja/string_operations.h"

namespace quern::jinja {
namespace {

bool is_given(const Value& v) { return v.given() && !v.is(Kind::none); }

/// What `attribute="a.b.0"` fetches from an item: each part by item, then by attribute; digits are indices.
class AttributePath {
 public:
  static Result<AttributePath> make(Runtime& rt, const Value& attribute) {
    AttributePath path;
    if (!is_given(attribute)) return path;
    QUERN_TRY_STATUS(check_defined(attribute));
    if (attribute.is(Kind::string)) {
      for (std::string_view rest = attribute.view();;) {
        const size_t dot = std::min(rest.find('.'), rest.size());
        const std::string_view part = rest.substr(0, dot);
        const bool is_index = !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == part.npos;
        path.parts_.push_back(is_index ? Value::integer(std::stoll(std::string(part))) : rt.string(part));
        if (dot == rest.size()) break;
        rest.remove_prefix(dot + 1);
      }
    } else {
      path.parts_.push_back(attribute);
    }
    return path;
  }

  Result<Value> fetch(Runtime& rt, Value item, const Value& otherwise = Value()) const {
    for (const Value& part : parts_) {
      QUERN_TRY(item, get_item(rt, item, part));
      if (is_given(otherwise) && item.is(Kind::undefined)) item = otherwise;
    }
    return item;
  }

 private:
  Values parts_;
};

Result<Value> without_case(Runtime& rt, Value value, bool case_sensitive) {
  if (case_sensitive || !value.is(Kind::string)) return value;
  QUERN_TRY_STATUS(rt.spend_bytes(value.view().size()));
  return rt.string(convert_case(value.text(), Case::lower));
}

/// The keys of items for min, max and unique.
Result<Values> keys_of(Call& c, const Values& items, const Value& case_sensitive, const Value& attribute) {
  QUERN_TRY(const bool exact, truthy(case_sensitive));
  QUERN_TRY(const AttributePath path, AttributePath::make(c.rt, attribute));
  Values keys;
  for (const Value& item : items) {
    QUERN_TRY(Value key, path.fetch(c.rt, item));
    QUERN_TRY(key, without_case(c.rt, std::move(key), exact));
    keys.push_back(std::move(key));
  }
  return keys;
}

Result<Value> first(Call& c) {
  if (c.self.is(Kind::generator)) {
    Values& items = c.self.as<ListObject>().items;
    if (items.empty()) return c.rt.undefined("No first item, sequence was empty.");
    Value item = std::move(items.front());
    items.erase(items.begin());
    return item;
  }
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  if (items.empty()) return c.rt.undefined("No first item, sequence was empty.");
  return items.front();
}

Result<Value> last(Call& c) {
  if (c.self.is(Kind::generator)) return template_error("'generator' object is not reversible");
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  if (items.empty()) return c.rt.undefined("No last item, sequence was empty.");
  return items.back();
}

Result<Value> length_filter(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(c.self.is(Kind::string) ? c.self.view().size() / 16 : 0));
  QUERN_TRY(const int64_t n, length(c.self));
  return Value::integer(n);
}

Result<Value> list(Call& c) {
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  return c.rt.list(std::move(items));
}

Result<Value> reverse(Call& c) {
  if (c.self.is(Kind::string)) return get_slice(c.rt, c.self, Value(), Value(), Value::integer(-1));
  const bool was_generator = c.self.is(Kind::generator);
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  std::reverse(items.begin(), items.end());
  return was_generator ? c.rt.list(std::move(items)) : generator(c.rt, std::move(items));
}

Result<Value> join_filter(Call& c) {
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  if (is_given(c[1])) {
    QUERN_TRY(const AttributePath path, AttributePath::make(c.rt, c[1]));
    for (Value& item : items) {
      QUERN_TRY(item, path.fetch(c.rt, item));
    }
  }
  Text separator;
  if (c[0].given()) QUERN_TRY_STATUS(append_str(c.rt, c[0], separator));
  return join(c.rt, separator, items, false);
}

Result<Value> sort(Call& c) {
  QUERN_TRY(const bool reversed, truthy(c[0]));
  QUERN_TRY(const bool exact, truthy(c[1]));
  std::vector<AttributePath> paths;
  if (c[2].is(Kind::string)) {
    for (std::string_view rest = c[2].view();;) {
      const size_t comma = std::min(rest.find(','), rest.size());
      QUERN_TRY(AttributePath path, AttributePath::make(c.rt, c.rt.string(rest.substr(0, comma))));
      paths.push_back(std::move(path));
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    QUERN_TRY(AttributePath path, AttributePath::make(c.rt, c[2]));
    paths.push_back(std::move(path));
  }
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  Values keys;
  for (const Value& item : items) {
    Values key;
    for (const AttributePath& path : paths) {
      QUERN_TRY(Value part, path.fetch(c.rt, item));
      QUERN_TRY(part, without_case(c.rt, std::move(part), exact));
      key.push_back(std::move(part));
    }
    keys.push_back(c.rt.list(std::move(key)));
  }
  QUERN_TRY_STATUS(sort_by(c.rt, items, keys, reversed));
  return c.rt.list(std::move(items));
}

Result<Value> unique(Call& c) {
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  QUERN_TRY(const Values keys, keys_of(c, items, c[0], c[1]));
  const Value seen = c.rt.dict();
  Values out;
  for (size_t i = 0; i < items.size(); ++i) {
    QUERN_TRY(const auto place, find_key(c.rt, seen.as<DictObject>(), keys[i]));
    if (place) continue;
    QUERN_TRY_STATUS(set_key(c.rt, seen.as<DictObject>(), keys[i], Value::none()));
    out.push_back(items[i]);
  }
  return generator(c.rt, std::move(out));
}

Result<Value> extreme(Call& c, CompareOp better) {
  QUERN_TRY(const Values items, iterate(c.rt, c.self));
  if (items.empty()) return c.rt.undefined("No aggregated item, sequence was empty.");
  QUERN_TRY(const Values keys, keys_of(c, items, c[0], c[1]));
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    QUERN_TRY(const bool wins, compare(c.rt, better, keys[i], keys[best]));
    if (wins) best = i;
  }
  return items[best];
}

Result<Value> min(Call& c) { return extreme(c, CompareOp::less); }
Result<Value> max(Call& c) { return extreme(c, CompareOp::greater); }

Result<Value> sum(Call& c) {
  QUERN_TRY(const AttributePath path, AttributePath::make(c.rt, c[0]));
  QUERN_TRY(const Values items, iterate(c.rt, c.self));
  Value total = c[1].given() ? c[1] : Value::integer(0);
  if (total.is(Kind::string)) return template_error("sum() can't sum strings");
  for (const Value& item : items) {
    QUERN_TRY(const Value part, path.fetch(c.rt, item));
    QUERN_TRY(total, arithmetic(c.rt, BinaryOp::add, total, part));
  }
  return total;
}

Result<Value> apply_by_name(Call& c, const Builtin* (*find)(std::string_view), std::string_view what, const Value& name,
                            const Value& item, const Values& args) {
  QUERN_TRY(const std::string_view text, string_argument(name, what));
  const Builtin* builtin = find(text);
  if (!builtin) return template_error("No {} named '{}'.", what, text);
  return call_builtin(c.rt, *builtin, item, args, c.named);
}

Result<Value> map(Call& c) {
  QUERN_TRY(const bool any, truthy(c.self));
  Values items;
  if (any) {
    QUERN_TRY(items, iterate(c.rt, c.self));
  }
  if (!c.rest.empty()) {
    const Values args(c.rest.begin() + 1, c.rest.end());
    for (Value& item : items) {
      QUERN_TRY(item, apply_by_name(c, find_filter, "filter", c.rest.front(), item, args));
    }
    return generator(c.rt, std::move(items));
  }
  Value attribute, otherwise;
  for (auto& [name, value] : c.named) {
    if (name == "attribute")
      attribute = value;
    else if (name == "default")
      otherwise = value;
    else
      return template_error("Unexpected keyword argument '{}'", name);
  }
  if (!attribute.given()) return template_error("map requires a filter argument");
  QUERN_TRY(const AttributePath path, AttributePath::make(c.rt, attribute));
  for (Value& item : items) {
    QUERN_TRY(item, path.fetch(c.rt, item, otherwise));
  }
  return generator(c.rt, std::move(items));
}

enum class Keep : uint8_t { passing, failing };
enum class Look : uint8_t { at_item, at_attribute };

Result<Value> choose(Call& c, Keep keep, Look look) {
  size_t used = 0;
  AttributePath path;
  if (look == Look::at_attribute) {
    if (c.rest.empty()) return template_error("Missing parameter for attribute name");
    QUERN_TRY(path, AttributePath::make(c.rt, c.rest.front()));
    used = 1;
  }
  const Value test = used < c.rest.size() ? c.rest[used] : Value();
  const Values args(c.rest.begin() + static_cast<ptrdiff_t>(std::min(used + 1, c.rest.size())), c.rest.end());
  QUERN_TRY(const bool any, truthy(c.self));
  Values out;
  if (!any) return generator(c.rt, {});
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  for (Value& item : items) {
    QUERN_TRY(Value judged, path.fetch(c.rt, item));
    if (test.given()) {
      QUERN_TRY(judged, apply_by_name(c, find_test, "test", test, judged, args));
    }
    QUERN_TRY(const bool passes, truthy(judged));
    if (passes == (keep == Keep::passing)) out.push_back(std::move(item));
  }
  return generator(c.rt, std::move(out));
}

Result<Value> select(Call& c) { return choose(c, Keep::passing, Look::at_item); }
Result<Value> reject(Call& c) { return choose(c, Keep::failing, Look::at_item); }
Result<Value> select_attr(Call& c) { return choose(c, Keep::passing, Look::at_attribute); }
Result<Value> reject_attr(Call& c) { return choose(c, Keep::failing, Look::at_attribute); }

Result<Value> items(Call& c) {
  if (c.self.is(Kind::undefined)) return generator(c.rt, {});
  if (!c.self.is(Kind::dict)) return template_error("Can only get item pairs from a mapping.");
  QUERN_TRY(Values pairs, iterate(c.rt, Value(c.rt.heap.make<ViewObject>(0, c.self, ViewObject::Part::items))));
  return generator(c.rt, std::move(pairs));
}

Result<Value> dictsort(Call& c) {
  QUERN_TRY_STATUS(check_defined(c.self));
  if (!c.self.is(Kind::dict)) return template_error("'{}' object has no attribute 'items'", type_name(c.self));
  QUERN_TRY(const bool exact, truthy(c[0]));
  QUERN_TRY(const std::string_view by, c[1].given() ? string_argument(c[1], "by") : Result<std::string_view>("key"));
  if (by != "key" && by != "value") return template_error("You can only sort by either \"key\" or \"value\"");
  QUERN_TRY(const bool reversed, truthy(c[2]));
  Values pairs, keys;
  for (const auto& [key, value] : c.self.as<DictObject>().entries) {
    QUERN_TRY(Value sort_key, without_case(c.rt, by == "key" ? key : value, exact));
    keys.push_back(std::move(sort_key));
    pairs.push_back(c.rt.tuple({key, value}));
  }
  QUERN_TRY_STATUS(sort_by(c.rt, pairs, keys, reversed));
  return c.rt.list(std::move(pairs));
}

Result<Value> batch(Call& c) {
  QUERN_TRY(const int64_t size, integer_argument(c[0], "linecount"));
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  if (size <= 0) return template_error("batch: linecount must be positive, found {}", size);
  Values out, row;
  for (Value& item : items) {
    if (static_cast<int64_t>(row.size()) == size) out.push_back(c.rt.list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    if (is_given(c[1])) {
      QUERN_TRY_STATUS(c.rt.reserve(size * static_cast<int64_t>(sizeof(Value))));
      while (static_cast<int64_t>(row.size()) < size) row.push_back(c[1]);
    }
    out.push_back(c.rt.list(std::move(row)));
  }
  return generator(c.rt, std::move(out));
}

Result<Value> slice(Call& c) {
  QUERN_TRY(const int64_t slices, integer_argument(c[0], "slices"));
  QUERN_TRY(const Values items, iterate(c.rt, c.self));
  if (slices <= 0) return template_error("slice: slices must be positive, found {}", slices);
  QUERN_TRY_STATUS(c.rt.reserve(slices * 128));
  const auto n = static_cast<int64_t>(items.size());
  const int64_t each = n / slices, longer = n % slices;
  Values out;
  int64_t offset = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t start = offset + i * each;
    if (i < longer) ++offset;
    const int64_t end = offset + (i + 1) * each;
    Values part(items.begin() + start, items.begin() + end);
    if (is_given(c[1]) && i >= longer) part.push_back(c[1]);
    out.push_back(c.rt.list(std::move(part)));
  }
  return generator(c.rt, std::move(out));
}

constexpr Builtin kTable[] = {
    {"batch", "linecount! fill_with", batch},
    {"count", "", length_filter},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"first", "", first},
    {"groupby", "* **", nullptr},
    {"items", "", items},
    {"join", "d attribute", join_filter},
    {"last", "", last},
    {"length", "", length_filter},
    {"list", "", list},
    {"map", "* **", map},
    {"max", "case_sensitive attribute", max},
    {"min", "case_sensitive attribute", min},
    {"random", "", nullptr},
    {"reject", "* **", reject},
    {"rejectattr", "* **", reject_attr},
    {"reverse", "", reverse},
    {"select", "* **", select},
    {"selectattr", "* **", select_attr},
    {"slice", "slices! fill_with", slice},
    {"sort", "reverse case_sensitive attribute", sort},
    {"sum", "attribute start", sum},
    {"unique", "case_sensitive attribute", unique},
};

}  // namespace

std::span<const Builtin> list_filters() { return kTable; }

}  // namespace quern::jinja
