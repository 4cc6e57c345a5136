// SPDX-License-Identifier: Apache-2.0
// Format: NEP 1 and numpy.lib.format: magic, version, header length, a Python dict as text, data.
#include "quern/cli/npy.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "quern/io/system_error.h"

namespace quern {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");
constexpr std::string_view kMagic("\x93NUMPY", 6);

/// The dict of the header: three known keys, in any order. Reads it as Python's literal would be.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  std::optional<std::pair<int64_t, int64_t>> read() {
    bool good = take('{');
    while (good && !take('}')) good = entry() && (take(',') || peek('}'));
    skip();
    if (!good || !text_.empty() || !descr_ || !order_ || !shape_) return std::nullopt;
    return std::pair(rows_, columns_);
  }

 private:
  void skip() { text_.remove_prefix(std::min(text_.find_first_not_of(" \t\r\n"), text_.size())); }
  bool peek(char c) { return skip(), text_.starts_with(c); }
  bool take(char c) { return peek(c) && (text_.remove_prefix(1), true); }
  bool take(std::string_view word) {
    return skip(), text_.starts_with(word) && (text_.remove_prefix(word.size()), true);
  }
  bool quoted(std::string_view word) {
    for (char quote : {'\'', '"'})
      if (take(std::string(1, quote) + std::string(word) + quote)) return true;
    return false;
  }
  bool integer(int64_t& out) {
    skip();
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), out);
    if (error != std::errc() || out < 0) return false;
    text_.remove_prefix(end - text_.data());
    return true;
  }
  bool entry() {
    if (quoted("descr")) return descr_ = take(':') && quoted("<f4");
    if (quoted("fortran_order")) return order_ = take(':') && take("False");
    if (quoted("shape"))
      return shape_ =
                 take(':') && take('(') && integer(rows_) && take(',') && integer(columns_) && (take(','), take(')'));
    return false;
  }

  std::string_view text_;
  bool descr_ = false, order_ = false, shape_ = false;
  int64_t rows_ = 0, columns_ = 0;
};

/// /dev/stdout, /dev/fd/3, /proc/self/fd/3: the name of an open descriptor, though it may lead to a regular file.
/// Renaming something into its place would replace the name, not what it leads to.
bool names_descriptor(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto within_proc = [](const std::filesystem::path& p) { return p.native().starts_with("/proc/"); };
  return within_proc(std::filesystem::read_symlink(path, ignored)) ||
         within_proc(std::filesystem::weakly_canonical(path.parent_path(), ignored));
}

Error not_npy(std::string_view found) {
  return make_error(ErrorCode::corrupt_data, "expected a .npy file of float32 [rows, columns] in C order, found {}",
                    found);
}

}  // namespace

std::string npy_header(int64_t rows, int64_t columns) {
  std::string dict = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  const size_t before = kMagic.size() + 4;
  dict.append(63 - (before + dict.size()) % 64, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += std::string("\x01\x00", 2);
  out += static_cast<char>(dict.size() & 0xff);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

Result<NpyLayout> parse_npy(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto byte = [&](size_t i) { return std::to_integer<size_t>(bytes[i]); };
  if (!text.starts_with(kMagic) || bytes.size() < 12) return not_npy("other bytes");
  const size_t major = byte(6);
  if (major < 1 || major > 3) return not_npy(fmt::format("format version {}", major));
  const size_t start = major == 1 ? 10 : 12;
  const size_t length = major == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - start) return not_npy("a header longer than the file");
  const auto shape = HeaderReader(text.substr(start, length)).read();
  if (!shape) return not_npy(fmt::format("the header {}", text.substr(start, std::min<size_t>(length, 120))));
  const auto [rows, columns] = *shape;
  const size_t offset = start + length, room = (bytes.size() - offset) / sizeof(float);
  const bool fits =
      rows == 0 || columns == 0 ||
      (static_cast<uint64_t>(rows) <= room && static_cast<uint64_t>(columns) <= room / static_cast<uint64_t>(rows));
  if (!fits) return not_npy(fmt::format("room for {} numbers where [{}, {}] is announced", room, rows, columns));
  return NpyLayout{offset, rows, columns};
}

Result<NpyMatrix> NpyMatrix::open(const std::filesystem::path& path) {
  NpyMatrix out;
  QUERN_TRY(out.file_, MappedFile::open(path));
  auto layout = parse_npy(out.file_.bytes());
  if (!layout) return std::move(layout).error().in(path.string());
  out.data_ = out.file_.bytes().data() + layout->offset;
  out.rows_ = layout->rows;
  out.columns_ = layout->columns;
  return out;
}

void NpyMatrix::copy_row(int64_t row, std::span<float> out) const {
  QUERN_CHECK(row >= 0 && row < rows_ && static_cast<int64_t>(out.size()) == columns_, "a row outside the matrix");
  std::memcpy(out.data(), data_ + row * columns_ * static_cast<int64_t>(sizeof(float)), out.size_bytes());
}

Status NpyWriter::open(const std::filesystem::path& path) {
  path_ = path;
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  const bool special = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  if (!special && !names_descriptor(path)) {
    QUERN_TRY(AtomicFile file, AtomicFile::create(path));
    file_.emplace(std::move(file));
    return {};
  }
  fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) return system_error(path_, "cannot write");
  return {};
}

Result<NpyWriter> NpyWriter::create(const std::filesystem::path& path, int64_t rows, int64_t columns) {
  NpyWriter out;
  QUERN_TRY_STATUS(out.open(path));
  out.left_ = rows * columns;
  const std::string header = npy_header(rows, columns);
  QUERN_TRY_STATUS(out.write_bytes(std::as_bytes(std::span(header))));
  return out;
}

NpyWriter::NpyWriter(NpyWriter&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      fd_(std::exchange(other.fd_, -1)),
      left_(other.left_) {}

NpyWriter::~NpyWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status NpyWriter::write_bytes(std::span<const std::byte> bytes) {
  if (file_) return file_->write(bytes);
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n >= 0)
      bytes = bytes.subspan(static_cast<size_t>(n));
    else if (errno != EINTR)
      return system_error(path_, "cannot write");
  }
  return {};
}

Status NpyWriter::write(std::span<const float> rows) {
  left_ -= static_cast<int64_t>(rows.size());
  QUERN_CHECK(left_ >= 0, "more rows than announced");
  return write_bytes(std::as_bytes(rows));
}

Status NpyWriter::finish() {
  QUERN_CHECK(left_ == 0, "fewer rows than announced");
  if (file_) return file_->commit();
  if (::close(std::exchange(fd_, -1)) != 0) return system_error(path_, "cannot write");
  return {};
}

}  // namespace quern
