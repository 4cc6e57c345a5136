// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// A JSON document as a value: objects keep the order of their keys, numbers the digits they were written with.
/// Parsing: simdjson behind this type (UTF-8 validated, lone surrogates refused, objects and arrays nested at most
/// kMaxDepth deep).
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;
  /// An integer beyond 64 bits, as written.
  struct BigInteger {
    std::string digits;
    bool operator==(const BigInteger&) const = default;
  };
  enum class Type : uint8_t { null, boolean, integer, number, big_integer, string, array, object };
  static constexpr int kMaxDepth = 200;

  Json() = default;
  Json(std::nullptr_t) {}                              // NOLINT(google-explicit-constructor)
  Json(bool b) : data_(b) {}                           // NOLINT(google-explicit-constructor)
  Json(int i) : data_(int64_t{i}) {}                   // NOLINT(google-explicit-constructor)
  Json(unsigned i) : data_(int64_t{i}) {}              // NOLINT(google-explicit-constructor)
  Json(int64_t i) : data_(i) {}                        // NOLINT(google-explicit-constructor)
  Json(uint64_t i);                                    // NOLINT(google-explicit-constructor)
  Json(double d) : data_(d) {}                         // NOLINT(google-explicit-constructor)
  Json(const char* s) : data_(std::string(s)) {}       // NOLINT(google-explicit-constructor)
  Json(std::string s) : data_(std::move(s)) {}         // NOLINT(google-explicit-constructor)
  Json(std::string_view s) : data_(std::string(s)) {}  // NOLINT(google-explicit-constructor)
  Json(BigInteger b) : data_(std::move(b)) {}          // NOLINT(google-explicit-constructor)
  Json(Array a) : data_(std::move(a)) {}               // NOLINT(google-explicit-constructor)
  Json(Object o) : data_(std::move(o)) {}              // NOLINT(google-explicit-constructor)

  /// One whole document; anything after it but white space is an error. With `unique_keys` a key that stands twice in
  /// one object is an error, else the last one wins. More than `most_keys` in one object are an error.
  static Result<Json> parse(std::string_view text, bool unique_keys = false, size_t most_keys = SIZE_MAX);

  Type type() const { return static_cast<Type>(data_.index()); }
  bool is_null() const { return type() == Type::null; }
  bool is_bool() const { return type() == Type::boolean; }
  bool is_integer() const { return type() == Type::integer; }
  bool is_number() const { return type() == Type::integer || type() == Type::number; }
  bool is_string() const { return type() == Type::string; }
  bool is_array() const { return type() == Type::array; }
  bool is_object() const { return type() == Type::object; }

  // The value where the type is known to fit (QUERN_CHECK).
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return std::get<int64_t>(data_); }
  double number() const { return is_integer() ? static_cast<double>(integer()) : std::get<double>(data_); }
  const std::string& digits() const { return std::get<BigInteger>(data_).digits; }
  const std::string& string() const { return std::get<std::string>(data_); }
  const Array& array() const { return std::get<Array>(data_); }
  Array& array() { return std::get<Array>(data_); }
  const Object& object() const { return std::get<Object>(data_); }
  Object& object() { return std::get<Object>(data_); }

  /// Member of an object; null pointer if this is no object or has no such key.
  const Json* find(std::string_view key) const;
  /// Sets or replaces a member (turns null into an object).
  Json& set(std::string_view key, Json value);

  /// JSON text. `indent` < 0: one line, `{"a":1,"b":[1,2]}` with no spaces. Floats round-trip, as Python's repr writes
  /// them (1.0, 1e-05). Not finite: null.
  std::string dump(int indent = -1) const;

  bool operator==(const Json&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, BigInteger, std::string, Array, Object> data_;
};

/// The text as a JSON string literal with its quotes. `ascii`: everything beyond ASCII as \uXXXX. Broken UTF-8 becomes
/// U+FFFD.
std::string json_quote(std::string_view text, bool ascii = false);

/// Python's repr of a float: shortest digits that round-trip, `1.0`, `1e-05`, `1e+16`, `inf`, `nan`.
std::string float_repr(double value);

}  // namespace quern
