// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/convert.h"

#include "quern/base/utf8.h"
#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

Value string_value(Runtime& rt, const std::string& text, bool user) {
  return rt.string(Text(utf8_valid(text) ? text : utf8_repair(text), user));
}

Result<Value> convert(Runtime& rt, const Json& json, bool user, int depth) {
  // A Json built by hand may be deeper than what its parser lets through.
  if (depth > Json::kMaxDepth) return template_error("a variable is nested deeper than {}", Json::kMaxDepth);
  QUERN_TRY_STATUS(rt.spend(1));
  switch (json.type()) {
    case Json::Type::null:
      return Value::none();
    case Json::Type::boolean:
      return Value::boolean(json.boolean());
    case Json::Type::integer:
      return Value::integer(json.integer());
    case Json::Type::number:
      return Value::floating(json.number());
    case Json::Type::big_integer:
      return Value(rt.heap.make<BigIntegerObject>(static_cast<int64_t>(json.digits().size()), json.digits()));
    case Json::Type::string:
      return string_value(rt, json.string(), user);
    case Json::Type::array: {
      Values items;
      items.reserve(json.array().size());
      for (const Json& item : json.array()) {
        QUERN_TRY(Value value, convert(rt, item, user, depth + 1));
        items.push_back(std::move(value));
      }
      return rt.list(std::move(items));
    }
    case Json::Type::object: {
      Value dict = rt.dict();
      for (const auto& [key, item] : json.object()) {
        QUERN_TRY(Value value, convert(rt, item, user, depth + 1));
        QUERN_TRY_STATUS(set_key(rt, dict.as<DictObject>(), string_value(rt, key, user), std::move(value)));
      }
      return dict;
    }
  }
  return Value::none();
}

}  // namespace

Result<Value> from_json_value(Runtime& rt, const Json& json, bool user) { return convert(rt, json, user, 0); }

}  // namespace quern::jinja
