// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <limits>

#include "quern/gguf/file.h"

namespace quern::gguf {
namespace {

template <typename T>
T at(std::span<const std::byte> data, int64_t index) {
  T value;
  std::memcpy(&value, data.data() + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

std::string_view value_type_name(ValueType type) {
  static constexpr std::string_view names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                               "bool", "string", "array", "u64", "i64", "f64"};
  const auto i = static_cast<uint32_t>(type);
  return i < std::size(names) ? names[i] : "unknown";
}

ValueType Value::type() const { return type_; }
bool Value::is_array() const { return type_ == ValueType::array; }
ValueType Value::element_type() const { return is_array() ? element_ : type_; }
int64_t Value::size() const { return count_; }

std::optional<int64_t> Value::integer(int64_t index) const {
  if (index < 0 || index >= count_) return std::nullopt;
  switch (element_type()) {
    case ValueType::u8:
    case ValueType::boolean:
      return at<uint8_t>(data_, index);
    case ValueType::i8:
      return at<int8_t>(data_, index);
    case ValueType::u16:
      return at<uint16_t>(data_, index);
    case ValueType::i16:
      return at<int16_t>(data_, index);
    case ValueType::u32:
      return at<uint32_t>(data_, index);
    case ValueType::i32:
      return at<int32_t>(data_, index);
    case ValueType::i64:
      return at<int64_t>(data_, index);
    case ValueType::u64: {
      const auto value = at<uint64_t>(data_, index);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> Value::number(int64_t index) const {
  if (index < 0 || index >= count_) return std::nullopt;
  if (element_type() == ValueType::f32) return at<float>(data_, index);
  if (element_type() == ValueType::f64) return at<double>(data_, index);
  if (const auto whole = integer(index)) return static_cast<double>(*whole);
  return std::nullopt;
}

std::optional<bool> Value::boolean(int64_t index) const {
  const auto whole = integer(index);
  if (!whole || (*whole != 0 && *whole != 1)) return std::nullopt;
  return *whole == 1;
}

std::optional<std::string_view> Value::string(int64_t index) const {
  if (element_type() != ValueType::string || index < 0 || index >= count_) return std::nullopt;
  return strings_[index];
}

}  // namespace quern::gguf
