// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "quern/base/result.h"
#include "quern/io/atomic_file.h"
#include "quern/io/mapped_file.h"

namespace quern {

/// The header of a .npy file (NumPy format 1.0) of float32 [rows, columns]; its length is a multiple of 64.
std::string npy_header(int64_t rows, int64_t columns);

/// Writes a float32 matrix row by row. The file appears under its name when it is complete, by `finish`; without that
/// nothing is left behind (`AtomicFile`). Pipes, devices and open descriptors (/dev/stdout, whatever it is) are written
/// directly, behind what is there.
class NpyWriter {
 public:
  static Result<NpyWriter> create(const std::filesystem::path& path, int64_t rows, int64_t columns);
  NpyWriter(NpyWriter&& other) noexcept;
  NpyWriter& operator=(NpyWriter&&) = delete;
  ~NpyWriter();

  /// Whole rows. More than were announced are our bug.
  Status write(std::span<const float> rows);
  /// All rows must have come.
  Status finish();

 private:
  NpyWriter() = default;
  Status open(const std::filesystem::path& path);
  Status write_bytes(std::span<const std::byte> bytes);
  std::filesystem::path path_;
  std::optional<AtomicFile> file_;
  int fd_ = -1;       // where there is no file_
  int64_t left_ = 0;  // numbers still to come
};

/// A float32 matrix in a mapped .npy file: little-endian, C order, two dimensions. Every bound checked.
class NpyMatrix {
 public:
  static Result<NpyMatrix> open(const std::filesystem::path& path);
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  void copy_row(int64_t row, std::span<float> out) const;  ///< data may be unaligned in the file

 private:
  MappedFile file_;
  const std::byte* data_ = nullptr;
  int64_t rows_ = 0, columns_ = 0;
};

/// Where the numbers lie in the bytes of a .npy file, and how many.
struct NpyLayout {
  size_t offset;
  int64_t rows, columns;
};
Result<NpyLayout> parse_npy(std::span<const std::byte> bytes);

}  // namespace quern
