// SPDX-License-Identifier: Apache-2.0
// Hugging Face's sandbox refuses to change lists and dicts; some published templates do it all the same, so they may
// here.
#include <algorithm>
#include <cmath>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {
namespace {

Values& items_of(const Call& c) { return c.self.as<ListObject>().items; }
DictObject& dict_of(const Call& c) { return c.self.as<DictObject>(); }

Status grow(Call& c, size_t items) {
  const auto bytes = static_cast<int64_t>(items * sizeof(Value));
  QUERN_TRY_STATUS(c.rt.reserve(bytes));
  c.rt.heap.charge(*c.self.object(), bytes);
  return {};
}

Result<size_t> place_of(Call& c, const Values& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    QUERN_TRY(const bool same, equal(c.rt, items[i], c[0]));
    if (same) return i;
  }
  return template_error("the value is not in the {}", type_name(c.self));
}

// Lists and tuples.

Result<Value> index(Call& c) {
  QUERN_TRY(const size_t place, place_of(c, items_of(c)));
  return Value::integer(static_cast<int64_t>(place));
}

Result<Value> count(Call& c) {
  int64_t n = 0;
  for (const Value& item : items_of(c)) {
    QUERN_TRY(const bool same, equal(c.rt, item, c[0]));
    n += same;
  }
  return Value::integer(n);
}

Result<Value> append(Call& c) {
  QUERN_TRY_STATUS(grow(c, 1));
  items_of(c).push_back(c[0]);
  return Value::none();
}

Result<Value> extend(Call& c) {
  QUERN_TRY(Values more, iterate(c.rt, c[0]));
  QUERN_TRY_STATUS(grow(c, more.size()));
  items_of(c).insert(items_of(c).end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return Value::none();
}

Result<Value> insert(Call& c) {
  QUERN_TRY(int64_t place, integer_argument(c[0], "index"));
  const auto n = static_cast<int64_t>(items_of(c).size());
  QUERN_TRY_STATUS(grow(c, 1));
  QUERN_TRY_STATUS(c.rt.spend(n / 64));
  if (place < 0) place = std::max<int64_t>(place + n, 0);
  items_of(c).insert(items_of(c).begin() + std::min(place, n), c[1]);
  return Value::none();
}

Result<Value> pop(Call& c) {
  int64_t place = -1;
  if (c[0].given()) {
    QUERN_TRY(place, integer_argument(c[0], "index"));
  }
  const auto n = static_cast<int64_t>(items_of(c).size());
  if (n == 0) return template_error("pop from empty list");
  if (place < 0) place += n;
  if (place < 0 || place >= n) return template_error("pop index out of range");
  QUERN_TRY_STATUS(c.rt.spend(n / 64));
  Value item = items_of(c)[static_cast<size_t>(place)];
  items_of(c).erase(items_of(c).begin() + place);
  return item;
}

Result<Value> remove(Call& c) {
  QUERN_TRY(const size_t place, place_of(c, items_of(c)));
  const Value item = items_of(c)[place];
  items_of(c).erase(items_of(c).begin() + static_cast<ptrdiff_t>(place));
  return Value::none();
}

Result<Value> reverse(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend(static_cast<int64_t>(items_of(c).size() / 64)));
  std::reverse(items_of(c).begin(), items_of(c).end());
  return Value::none();
}

Result<Value> sort(Call& c) {
  if (c[0].given() && !c[0].is(Kind::none)) return template_error("sort(key=...) is not supported");
  QUERN_TRY(const bool reversed, truthy(c[1]));
  Values items = items_of(c);
  QUERN_TRY_STATUS(sort_by(c.rt, items, items_of(c), reversed));
  items_of(c) = std::move(items);
  return Value::none();
}

Result<Value> copy_list(Call& c) {
  QUERN_TRY(Values items, iterate(c.rt, c.self));
  return c.rt.list(std::move(items));
}

Result<Value> clear_list(Call& c) {
  const Values dead = std::exchange(items_of(c), {});
  return Value::none();
}

// Dicts.

Result<Value> view_of(const Call& c, ViewObject::Part part) {
  return Value(c.rt.heap.make<ViewObject>(0, c.self, part));
}
Result<Value> items(Call& c) { return view_of(c, ViewObject::Part::items); }
Result<Value> keys(Call& c) { return view_of(c, ViewObject::Part::keys); }
Result<Value> values(Call& c) { return view_of(c, ViewObject::Part::values); }

Result<Value> get(Call& c) {
  QUERN_TRY(const auto place, find_key(c.rt, dict_of(c), c[0]));
  if (place) return dict_of(c).entries[*place].second;
  return c[1].given() ? c[1] : Value::none();
}

Result<Value> copy_dict(Call& c) {
  Value out = c.rt.dict();
  for (const auto& [key, value] : dict_of(c).entries) QUERN_TRY_STATUS(set_key(c.rt, out.as<DictObject>(), key, value));
  return out;
}

Result<Value> update(Call& c) {
  if (c[0].given()) QUERN_TRY_STATUS(add_entries(c.rt, dict_of(c), c[0]));
  for (auto& [name, value] : c.named) QUERN_TRY_STATUS(set_key(c.rt, dict_of(c), c.rt.string(name), value));
  return Value::none();
}

Result<Value> pop_key(Call& c) {
  QUERN_TRY(const auto place, find_key(c.rt, dict_of(c), c[0]));
  if (!place) {
    if (c[1].given()) return c[1];
    return template_error("pop: the key is not in the dict");
  }
  Value value = dict_of(c).entries[*place].second;
  QUERN_TRY_STATUS(c.rt.spend(static_cast<int64_t>(dict_of(c).entries.size())));
  erase_entry(dict_of(c), *place);
  return value;
}

Result<Value> popitem(Call& c) {
  if (dict_of(c).entries.empty()) return template_error("popitem(): dictionary is empty");
  const auto [key, value] = dict_of(c).entries.back();
  QUERN_TRY_STATUS(c.rt.spend(static_cast<int64_t>(dict_of(c).entries.size())));
  erase_entry(dict_of(c), dict_of(c).entries.size() - 1);
  return c.rt.tuple({key, value});
}

Result<Value> setdefault(Call& c) {
  QUERN_TRY(const auto place, find_key(c.rt, dict_of(c), c[0]));
  if (place) return dict_of(c).entries[*place].second;
  const Value value = c[1].given() ? c[1] : Value::none();
  QUERN_TRY_STATUS(set_key(c.rt, dict_of(c), c[0], value));
  return value;
}

Result<Value> clear_dict(Call& c) {
  const auto dead = std::exchange(dict_of(c).entries, {});
  dict_of(c).index.clear();
  return Value::none();
}

// The others.

Result<Value> decode(Call& c) { return c.rt.string(c.self.text()); }

Result<Value> is_integer(Call& c) {
  return Value::boolean(std::isfinite(c.self.as_floating()) &&
                        c.self.as_floating() == std::floor(c.self.as_floating()));
}

Result<Value> cycler_next(Call& c) {
  auto& cycler = c.self.as<CyclerObject>();
  Value item = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return item;
}

Result<Value> cycler_reset(Call& c) {
  c.self.as<CyclerObject>().position = 0;
  return Value::none();
}

Result<Value> loop_cycle(Call& c) {
  if (c.rest.empty()) return template_error("no items for cycling given");
  return c.rest[static_cast<size_t>(c.self.as<LoopObject>().index0) % c.rest.size()];
}

Result<Value> loop_changed(Call& c) {
  auto& loop = c.self.as<LoopObject>();
  Value now = c.rt.tuple(std::move(c.rest));
  if (loop.changed_called) {
    QUERN_TRY(const bool same, equal(c.rt, loop.last_changed, now));
    if (same) return Value::boolean(false);
  }
  loop.changed_called = true;
  loop.last_changed = std::move(now);
  return Value::boolean(true);
}

Result<Value> range_index(Call& c) {
  QUERN_TRY(const Values all, iterate(c.rt, c.self));
  QUERN_TRY(const size_t place, place_of(c, all));
  return Value::integer(static_cast<int64_t>(place));
}

Result<Value> range_count(Call& c) {
  QUERN_TRY(const bool there, contains(c.rt, c.self, c[0]));
  return Value::integer(there ? 1 : 0);
}

constexpr Builtin kListMethods[] = {
    {"append", "object!", append},
    {"clear", "", clear_list},
    {"copy", "", copy_list},
    {"count", "value!", count},
    {"extend", "iterable!", extend},
    {"index", "value!", index},
    {"insert", "index! object!", insert},
    {"pop", "index", pop},
    {"remove", "value!", remove},
    {"reverse", "", reverse},
    {"sort", "key reverse", sort},
};

constexpr Builtin kTupleMethods[] = {{"count", "value!", count}, {"index", "value!", index}};

constexpr Builtin kDictMethods[] = {
    {"clear", "", clear_dict},        {"copy", "", copy_dict},  {"fromkeys", "* **", nullptr},
    {"get", "key! default", get},     {"items", "", items},     {"keys", "", keys},
    {"pop", "key! default", pop_key}, {"popitem", "", popitem}, {"setdefault", "key! default", setdefault},
    {"update", "/other **", update},  {"values", "", values},
};

constexpr Builtin kBytesMethods[] = {{"decode", "encoding errors", decode}};
constexpr Builtin kFloatMethods[] = {{"is_integer", "", is_integer},
                                     {"as_integer_ratio", "", nullptr},
                                     {"hex", "", nullptr},
                                     {"conjugate", "", nullptr}};
constexpr Builtin kIntegerMethods[] = {{"bit_length", "", nullptr},
                                       {"bit_count", "", nullptr},
                                       {"to_bytes", "* **", nullptr},
                                       {"as_integer_ratio", "", nullptr},
                                       {"conjugate", "", nullptr}};
constexpr Builtin kCyclerMethods[] = {{"next", "", cycler_next}, {"reset", "", cycler_reset}};
constexpr Builtin kLoopMethods[] = {{"changed", "*", loop_changed}, {"cycle", "*", loop_cycle}};
constexpr Builtin kRangeMethods[] = {{"count", "value!", range_count}, {"index", "value!", range_index}};

}  // namespace

std::span<const Builtin> list_methods() { return kListMethods; }
std::span<const Builtin> tuple_methods() { return kTupleMethods; }
std::span<const Builtin> dict_methods() { return kDictMethods; }

std::span<const Builtin> other_methods(Kind kind) {
  switch (kind) {
    case Kind::bytes:
      return kBytesMethods;
    case Kind::floating:
      return kFloatMethods;
    case Kind::integer:
    case Kind::boolean:
    case Kind::big_integer:
      return kIntegerMethods;
    case Kind::cycler:
      return kCyclerMethods;
    case Kind::loop:
      return kLoopMethods;
    case Kind::range:
      return kRangeMethods;
    default:
      return {};
  }
}

}  // namespace quern::jinja
