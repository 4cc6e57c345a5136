// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quern/gguf/file.h"
#include "quern/io/byte_reader.h"

namespace quern::gguf {

/// What one file of a (possibly split) model holds. Views into its bytes.
struct Part {
  uint32_t version = 0;
  std::vector<Entry> metadata;
  std::vector<Tensor> tensors;

  const Value* find(std::string_view key) const;
};

/// Reads and checks one file's bytes, which outlive the result. Every count is held against the bytes that are left
/// before anything is allocated for it. That no name stands twice is for the File to see, over all parts.
class Parser {
 public:
  static Result<Part> parse(std::span<const std::byte> bytes);

 private:
  struct Placed {
    Tensor tensor;
    uint64_t offset, bytes;
  };
  explicit Parser(std::span<const std::byte> bytes) : bytes_(bytes), in_(bytes) {}
  Status header();
  Status entries();
  Status value(Value& value, std::string_view key);
  Status array(Value& value, std::string_view key);
  Status tensors();
  Result<Placed> tensor_info();
  Status place(std::vector<Placed>& infos);
  Result<uint64_t> alignment() const;

  std::span<const std::byte> bytes_;
  ByteReader in_;
  uint64_t n_tensors_ = 0, n_entries_ = 0;
  Part part_;
};

}  // namespace quern::gguf
