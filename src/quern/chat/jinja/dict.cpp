// SPDX-License-Identifier: Apache-2.0
// Dicts: entries in order, found by hash.
#include <cmath>
#include <functional>

#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

constexpr int kMaxNesting = 200;

// Hashing, as equality needs it: equal numbers of any type are one key.

Result<size_t> hash_at(const Value& v, int depth) {
  if (depth > kMaxNesting) return template_error("values nested deeper than {}", kMaxNesting);
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

}  // namespace

bool is_hashable(const Value& value) { return hash_at(value, 0).has_value(); }

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

}  // namespace quern::jinja
