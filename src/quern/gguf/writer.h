// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/gguf/file.h"

namespace quern::gguf {

/// Makes a GGUF file (version 3): metadata, then tensors, in the order they were added. A key set again replaces the
/// value; a tensor added twice, or bytes that do not fit the shape, are our own bugs (QUERN_CHECK).
class Writer {
 public:
  explicit Writer(uint32_t alignment = 32);

  Writer& set(std::string_view key, std::string_view text);
  Writer& set(std::string_view key, const char* text) { return set(key, std::string_view(text)); }
  Writer& set(std::string_view key, bool value);
  Writer& set(std::string_view key, uint32_t value);
  Writer& set(std::string_view key, int32_t value);
  Writer& set(std::string_view key, uint64_t value);
  Writer& set(std::string_view key, int64_t value);
  Writer& set(std::string_view key, float value);
  Writer& set(std::string_view key, double value);
  Writer& set(std::string_view key, std::span<const std::string> texts);
  Writer& set(std::string_view key, std::span<const int32_t> values);
  Writer& set(std::string_view key, std::span<const uint32_t> values);
  Writer& set(std::string_view key, std::span<const float> values);
  Writer& set_bools(std::string_view key, const std::vector<bool>& values);
  /// A value as another file has it.
  Writer& copy(const Entry& entry);

  /// Fills a tensor's bytes when the file is written: nothing is held in memory but the tensor at hand.
  using Fill = std::function<Status(std::span<std::byte>)>;
  Writer& add(std::string_view name, const Shape& shape, const QuantType& type, Fill fill);
  Writer& add(std::string_view name, const Shape& shape, const QuantType& type, std::vector<std::byte> bytes);
  /// Floats, encoded to a type that can encode.
  Writer& add(std::string_view name, const Shape& shape, const QuantType& type, std::span<const float> values);

  /// In one step: a temporary file beside `path`, then a rename. On failure `path` is as it was.
  Status write(const std::filesystem::path& path) const;
  /// The whole file in memory.
  Result<std::vector<std::byte>> bytes() const;

 private:
  struct Field {
    std::string key;
    std::vector<std::byte> value;
  };  // value: type and data as in the file
  struct Item {
    std::string name;
    Shape shape;
    const QuantType* type;
    uint64_t offset, size;
    Fill fill;
  };
  Writer& put(std::string_view key, std::vector<std::byte> value);
  std::vector<std::byte> header() const;
  Status each_piece(const std::function<Status(std::span<const std::byte>)>& out) const;

  uint32_t alignment_;
  std::vector<Field> fields_;
  std::vector<Item> items_;
  uint64_t data_bytes_ = 0;
};

}  // namespace quern::gguf
