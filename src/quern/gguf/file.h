// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "quern/base/result.h"
#include "quern/tensor/tensor_view.h"

namespace quern::gguf {

enum class ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view value_type_name(ValueType type);

/// A metadata value inside the mapped file. Borrows from the File.
/// Reading is liberal: any integer type that fits, bool for integer and back where 0 or 1.
class Value {
 public:
  ValueType type() const;
  bool is_array() const;
  ValueType element_type() const;  ///< of an array
  int64_t size() const;            ///< elements of an array; 1 otherwise

  std::optional<int64_t> integer(int64_t index = 0) const;  ///< nothing if it is no integer or does not fit
  std::optional<double> number(int64_t index = 0) const;    ///< integers too
  std::optional<bool> boolean(int64_t index = 0) const;
  /// The bytes of a number or of an array of numbers, as in the file; empty for strings.
  std::span<const std::byte> raw() const { return data_; }
  std::optional<std::string_view> string(
      int64_t index = 0) const;  ///< constant time: string arrays are indexed at open

 private:
  friend class File;
  friend class Parser;
  ValueType type_ = ValueType::u8, element_ = ValueType::u8;
  int64_t count_ = 1;
  std::span<const std::byte> data_;
  std::vector<std::string_view> strings_;
};

struct Entry {
  std::string_view key;
  Value value;
};

struct Tensor {
  std::string_view name;
  TensorView view;
};

/// The place of a file in a split model, as its name tells: "name-00002-of-00003.gguf".
struct PartName {
  std::string prefix;             ///< what the names of all parts begin with: "name"
  int64_t number = 0, count = 0;  ///< `number` from 0 on, below `count`
};
std::optional<PartName> part_name(const std::filesystem::path& path);

/// All parts of the split model that a file of this name belongs to, in order, whether they are there or not; a file of
/// another name alone. Looks at no disk.
std::vector<std::filesystem::path> part_paths(const std::filesystem::path& path);

/// A GGUF file (v2, v3) or all parts of a split one, mapped and checked: every bound before anything is allocated,
/// every tensor inside its file. Immutable. Layout: docs/formats.md.
class File {
 public:
  /// Any part of a split file opens all of them.
  static Result<File> open(const std::filesystem::path& path);
  /// From bytes that outlive the File (fuzzing, tests); no splits.
  static Result<File> parse(std::span<const std::byte> bytes);
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  std::span<const Entry> metadata() const;
  const Value* find(std::string_view key) const;
  std::span<const Tensor> tensors() const;
  const TensorView* find_tensor(std::string_view name) const;

  // The value of a key where it must be there and of that kind: else an error with the key, expected and found.
  Result<int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<std::string_view> string(std::string_view key) const;

  uint32_t version() const;
  int64_t file_bytes() const;  ///< of all parts
  std::span<const std::filesystem::path> paths() const;
  /// See MappedFile.
  void let_go(std::span<const std::byte> piece) const;
  void read_ahead(const std::byte* from, size_t bytes) const;

 private:
  struct Impl;
  explicit File(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern::gguf
