// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/builtins.h"

#include <algorithm>

#include "quern/chat/jinja/operations.h"

namespace quern::jinja {
namespace {

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
  for (const Builtin& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

/// Calls visit(name, required) for each parameter of a row; `*` and `**` come as names too.
template <typename Visit>
Status for_each_parameter(std::string_view parameters, Visit visit) {
  while (!parameters.empty()) {
    const size_t end = std::min(parameters.find(' '), parameters.size());
    std::string_view name = parameters.substr(0, end);
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
    const bool required = name.ends_with('!');
    if (required) name.remove_suffix(1);
    QUERN_TRY_STATUS(visit(name, required));
  }
  return {};
}

Status bind(const Builtin& builtin, Values positional, NamedValues named, Call& call) {
  size_t used = 0;
  bool any_named = false, any_positional = false;
  QUERN_TRY_STATUS(for_each_parameter(builtin.parameters, [&](std::string_view name, bool required) -> Status {
    if (name == "*") return any_positional = true, Status();
    if (name == "**") return any_named = true, Status();
    Value value;
    if (used < positional.size()) value = std::move(positional[used++]);
    for (size_t i = 0; i < named.size(); ++i) {
      if (named[i].first != name) continue;
      if (value.given()) return template_error("{}() got multiple values for argument '{}'", builtin.name, name);
      value = std::move(named[i].second);
      named.erase(named.begin() + static_cast<ptrdiff_t>(i));
      break;
    }
    if (required && !value.given()) return template_error("{}() is missing the argument '{}'", builtin.name, name);
    call.args.push_back(std::move(value));
    return {};
  }));
  if (used < positional.size() && !any_positional)
    return template_error("{}() takes at most {} arguments, {} given", builtin.name, used, positional.size());
  if (!named.empty() && !any_named)
    return template_error("{}() got an unexpected keyword argument '{}'", builtin.name, named.front().first);
  call.rest.assign(std::make_move_iterator(positional.begin() + static_cast<ptrdiff_t>(used)),
                   std::make_move_iterator(positional.end()));
  call.named = std::move(named);
  return {};
}

}  // namespace

const Builtin* find_filter(std::string_view name) {
  for (const auto table : {string_filters(), list_filters(), value_filters()})
    if (const Builtin* row = find_in(table, name)) return row;
  return nullptr;
}

const Builtin* find_test(std::string_view name) { return find_in(tests(), name); }

const Builtin* find_function(std::string_view name) { return find_in(functions(), name); }

const Builtin* find_method(Kind kind, std::string_view name) {
  switch (kind) {
    case Kind::string:
      return find_in(string_methods(), name);
    case Kind::list:
      return find_in(list_methods(), name);
    case Kind::tuple:
      return find_in(tuple_methods(), name);
    case Kind::dict:
      return find_in(dict_methods(), name);
    default:
      return find_in(other_methods(kind), name);
  }
}

Result<Value> call_builtin(Runtime& rt, const Builtin& builtin, const Value& self, Values positional,
                           NamedValues named) {
  QUERN_TRY_STATUS(rt.spend(1));
  if (!builtin.function) return template_error("'{}' is not supported in chat templates", builtin.name);
  Call call{rt, self, {}, {}, {}};
  QUERN_TRY_STATUS(bind(builtin, std::move(positional), std::move(named), call));
  return builtin.function(call);
}

Result<int64_t> integer_argument(const Value& value, std::string_view name) {
  QUERN_TRY_STATUS(check_defined(value));
  if (!value.is_integral())
    return template_error("{}: '{}' object cannot be interpreted as an integer", name, type_name(value));
  return value.as_integer();
}

Result<std::string_view> string_argument(const Value& value, std::string_view name) {
  QUERN_TRY_STATUS(check_defined(value));
  if (!value.is(Kind::string)) return template_error("{}: expected str, found {}", name, type_name(value));
  return value.view();
}

}  // namespace quern::jinja
