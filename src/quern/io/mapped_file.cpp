// SPDX-License-Identifier: Apache-2.0
#include "quern/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>

#include "quern/io/atomic_file.h"
#include "quern/io/system_error.h"

namespace quern {
namespace {

/// A descriptor that closes itself.
struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(Descriptor&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

struct OpenFile {
  Descriptor file;
  size_t size;
};

/// O_NONBLOCK: a pipe without a writer would else hang here before it can be refused. It means nothing to a regular
/// file.
Result<OpenFile> open_regular(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.fd < 0) return system_error(path, "cannot open");
  struct stat facts;
  if (::fstat(file.fd, &facts) != 0) return system_error(path, "cannot open");
  if (!S_ISREG(facts.st_mode))
    return make_error(ErrorCode::invalid_argument, "{}: expected a regular file, found {}", path.string(),
                      file_kind(facts.st_mode));
  return OpenFile{std::move(file), static_cast<size_t>(facts.st_size)};
}

/// Of whole pages.
void advise(const std::byte* from, size_t bytes, int advice) {
  static const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from) / page * page;
  ::madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(from) + bytes - begin, advice);
}

Error too_large(const std::filesystem::path& path, size_t limit, size_t size) {
  return make_error(ErrorCode::unsupported, "{}: expected at most {} bytes, found {}", path.string(), limit, size);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  QUERN_TRY(OpenFile opened, open_regular(path));
  MappedFile out;
  if (opened.size == 0) return out;  // mmap refuses a length of 0
  void* data = ::mmap(nullptr, opened.size, PROT_READ, MAP_PRIVATE, opened.file.fd, 0);
  if (data == MAP_FAILED) return system_error(path, "cannot map");
  out.data_ = static_cast<const std::byte*>(data);
  out.size_ = opened.size;
  return out;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::let_go(std::span<const std::byte> piece) const {
  const auto outside = std::less<const std::byte*>();
  if (piece.empty() || outside(piece.data(), data_) || outside(data_ + size_, piece.data() + piece.size())) return;
  // Pages at the ends are shared with neighbours, who read them again from the system's cache if they must.
  advise(piece.data(), piece.size(), MADV_DONTNEED);
}

void MappedFile::read_ahead(const std::byte* from, size_t bytes) const {
  const auto outside = std::less<const std::byte*>();
  if (outside(from, data_) || !outside(from, data_ + size_)) return;
  // One request reads no more than the read-ahead of the device, 128 KiB almost everywhere, and forgets the rest.
  constexpr size_t kRequest = 128 << 10;
  bytes = std::min(bytes, static_cast<size_t>(data_ + size_ - from));
  for (size_t at = 0; at < bytes; at += kRequest) advise(from + at, std::min(kRequest, bytes - at), MADV_WILLNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path, size_t limit) {
  QUERN_TRY(OpenFile opened, open_regular(path));
  if (opened.size > limit) return too_large(path, limit, opened.size);
  // The size is a hint: files of /proc say 0, and others grow while they are read.
  std::string text;
  size_t room = opened.size + 1;
  while (true) {
    const size_t had = text.size();
    text.resize(had + room);
    const ssize_t n = ::read(opened.file.fd, text.data() + had, room);
    text.resize(had + (n > 0 ? static_cast<size_t>(n) : 0));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "cannot read");
    if (n == 0) return text;
    if (text.size() > limit) return too_large(path, limit, text.size());
    room = text.size() < opened.size ? opened.size - text.size() + 1 : 4096;
  }
}

Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  QUERN_TRY(AtomicFile file, AtomicFile::create(path));
  QUERN_TRY_STATUS(file.write(bytes));
  return file.commit();
}

}  // namespace quern
