// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/chat/jinja/ast.h"
#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

// What Python's operators do to the values of the language. Integers beyond 64 bits can be carried, compared and
// printed; arithmetic with them, or that leads to them, is an error.

Result<bool> truthy(const Value& value);
Result<bool> equal(Runtime& rt, const Value& a, const Value& b);
Result<bool> compare(Runtime& rt, CompareOp op, const Value& a, const Value& b);
Result<bool> contains(Runtime& rt, const Value& container, const Value& item);
Result<Value> arithmetic(Runtime& rt, BinaryOp op, const Value& a, const Value& b);
Result<Value> negate(Runtime& rt, const Value& value, bool minus);

Result<int64_t> length(const Value& value);
/// Everything an iteration over the value gives; a generator is empty afterwards.
Result<Values> iterate(Runtime& rt, const Value& value);
/// A generator's stand-in: iterated once, without length, order or text of its own.
Value generator(Runtime& rt, Values items);

/// value.name, as Jinja2 looks it up: the type's attribute first, then the item.
Result<Value> get_attribute(Runtime& rt, const Value& value, const Text& name);
/// value[key]: the item first, then the type's attribute.
Result<Value> get_item(Runtime& rt, const Value& value, const Value& key);
Result<Value> get_slice(Runtime& rt, const Value& value, const Value& start, const Value& stop, const Value& step);

/// Whether it can be a key.
bool is_hashable(const Value& value);
/// Place of the key among the entries, or nothing; an error where the key cannot be hashed.
Result<std::optional<size_t>> find_key(Runtime& rt, const DictObject& dict, const Value& key);
Status set_key(Runtime& rt, DictObject& dict, const Value& key, Value value);
/// What dict(source) and update(source) take: a dict, or pairs.
Status add_entries(Runtime& rt, DictObject& dict, const Value& source);
void erase_entry(DictObject& dict, size_t place);
/// Entry with that string as key; null if there is none.
const Value* find_string_key(const DictObject& dict, std::string_view key);

const Value* find_attribute(const NamespaceObject& object, std::string_view name);

/// A number as double; nothing for what is none, or a big integer.
std::optional<double> as_double(const Value& value);
/// Orders by a key that was computed for each item; stable. Fails where two keys cannot be compared.
Status sort_by(Runtime& rt, Values& items, const Values& keys, bool reverse);

/// The text with & < > ' " as entities; what is markup already stays.
Text escaped(const Value& string);

Error overflow_error();
/// The error every use of an undefined value gives, or nothing if it is another value.
Status check_defined(const Value& value);

}  // namespace quern::jinja
