// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "quern/base/check.h"

namespace quern {

/// What kind of failure; `error_names` in result.cpp maps each to its name, the exit code is the command's business.
enum class ErrorCode : uint8_t {
  invalid_argument,  ///< the caller asked for something that cannot be
  not_found,         ///< no such file, key or name
  corrupt_data,      ///< outside bytes break their own format
  unsupported,       ///< well-formed, but not built here
  out_of_memory,
  cancelled,
  internal,
};

std::string_view error_name(ErrorCode code);

/// A failure: one line that says what, where, expected and found. Callers add context on the way up with `in`.
struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;

  /// The same error, its message led by `where: `.
  Error in(std::string_view where) && { return {code, fmt::format("{}: {}", where, message)}; }
  Error in(std::string_view where) const& { return Error(*this).in(where); }
};

template <typename... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return {code, fmt::format(format, std::forward<Args>(args)...)};
}

/// Either a value or an Error. Names follow std::expected, which GCC 12 does not have.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : data_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : data_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  template <typename U>
    requires std::is_convertible_v<U, T> && (!std::is_same_v<std::remove_cvref_t<U>, T>) &&
             (!std::is_same_v<std::remove_cvref_t<U>, Error>) && (!std::is_same_v<std::remove_cvref_t<U>, Result>)
  Result(U&& value) : data_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return data_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return check(), std::get<0>(data_); }
  const T& value() const& { return check(), std::get<0>(data_); }
  T&& value() && { return check(), std::get<0>(std::move(data_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { return std::get<1>(data_); }
  const Error& error() const& { return std::get<1>(data_); }
  Error&& error() && { return std::get<1>(std::move(data_)); }

 private:
  void check() const { QUERN_CHECK(has_value(), std::get<1>(data_).message.c_str()); }
  std::variant<T, Error> data_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  void value() const { QUERN_CHECK(has_value(), error_->message.c_str()); }
  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

#define QUERN_CONCAT_(a, b) a##b
#define QUERN_CONCAT(a, b) QUERN_CONCAT_(a, b)

/// QUERN_TRY(auto file, MappedFile::open(path)); returns the error to the caller, or declares `file`.
#define QUERN_TRY(declaration, expression) QUERN_TRY_(declaration, (expression), QUERN_CONCAT(quern_result_, __LINE__))
#define QUERN_TRY_(declaration, expression, result)          \
  auto result = expression;                                  \
  if (!result.has_value()) return std::move(result).error(); \
  declaration = *std::move(result)

/// The same for a Status, or where the value is not wanted.
#define QUERN_TRY_STATUS(expression)                                                                         \
  do {                                                                                                       \
    if (auto quern_status = (expression); !quern_status.has_value()) return std::move(quern_status).error(); \
  } while (false)

}  // namespace quern
