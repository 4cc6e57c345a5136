// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/convert.h"

#include <algorithm>
#include <iterator>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

Value string_value(Runtime& rt, const std::string& text, bool user) {
  return rt.string(Text(utf8_valid(text) ? text : utf8_repair(text), user));
}

/// Who wrote the strings of a variable.
enum class Author : uint8_t { template_, user, messages };

/// Templates build control tokens around roles (`'<|' + message['role'] + '|>'`), which nobody could recognise if the
/// middle of them was user text. These words are no harm to a prompt; any other may be one of its control tokens.
bool is_known_role(std::string_view word) {
  static constexpr std::string_view kRoles[] = {"system",    "user",    "assistant", "tool",
                                                "developer", "ipython", "function",  "model"};
  return std::find(std::begin(kRoles), std::end(kRoles), word) != std::end(kRoles);
}

/// The role of one of the messages, not a `role` somewhere in the arguments of a tool call.
bool is_role_of_message(Author author, int depth, std::string_view key, const Json& value) {
  return author == Author::messages && depth == 1 && key == "role" && value.is_string() &&
         is_known_role(value.string());
}

Result<Value> convert(Runtime& rt, const Json& json, Author author, int depth) {
  const bool user = author != Author::template_;
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
        QUERN_TRY(Value value, convert(rt, item, author, depth + 1));
        items.push_back(std::move(value));
      }
      return rt.list(std::move(items));
    }
    case Json::Type::object: {
      Value dict = rt.dict();
      for (const auto& [key, item] : json.object()) {
        const bool known_role = is_role_of_message(author, depth, key, item);
        QUERN_TRY(Value value, convert(rt, item, known_role ? Author::template_ : author, depth + 1));
        QUERN_TRY_STATUS(set_key(rt, dict.as<DictObject>(), string_value(rt, key, user), std::move(value)));
      }
      return dict;
    }
  }
  return Value::none();
}

}  // namespace

Result<Value> from_json_value(Runtime& rt, const Json& json, bool user) {
  return convert(rt, json, user ? Author::user : Author::template_, 0);
}

Result<Value> messages_from_json(Runtime& rt, const Json& messages) {
  return convert(rt, messages, Author::messages, 0);
}

}  // namespace quern::jinja
