// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// What a builtin is called with, its arguments sorted to its parameters.
struct Call {
  Runtime& rt;
  const Value& self;  ///< a filter's input, a test's subject, a method's object; missing for functions
  Values args;        ///< one per parameter; missing where not given
  Values rest;        ///< further positional arguments (parameter `*`)
  NamedValues named;  ///< further named arguments (parameter `**`)

  const Value& operator[](size_t i) const { return args[i]; }
};

/// One filter, test, method or function: one row of a table. `parameters`: names separated by blanks, `!` behind those
/// that must be given, `*` and `**` at the end for any more. Without a function the name is known and refused.
struct Builtin {
  std::string_view name;
  std::string_view parameters;
  Result<Value> (*function)(Call& call);
};

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
/// Methods that Python's type has under this name; null if it has none.
const Builtin* find_method(Kind kind, std::string_view name);
const Builtin* find_function(std::string_view name);

Result<Value> call_builtin(Runtime& rt, const Builtin& builtin, const Value& self, Values positional,
                           NamedValues named);

// The tables, one per file.
std::span<const Builtin> string_filters();
std::span<const Builtin> list_filters();
std::span<const Builtin> value_filters();
std::span<const Builtin> tests();
std::span<const Builtin> string_methods();
std::span<const Builtin> list_methods();
std::span<const Builtin> tuple_methods();
std::span<const Builtin> dict_methods();
std::span<const Builtin> other_methods(Kind kind);
std::span<const Builtin> functions();

// Arguments as C++ values; the errors name the parameter.
Result<int64_t> integer_argument(const Value& value, std::string_view name);
Result<std::string_view> string_argument(const Value& value, std::string_view name);

}  // namespace quern::jinja
