// SPDX-License-Identifier: Apache-2.0
#include "quern/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace quern {
namespace {

/// A descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(Descriptor&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Error system_error(const std::filesystem::path& path, const char* doing) {
  const int code = errno;
  return make_error(code == ENOENT || code == ENOTDIR ? ErrorCode::not_found : ErrorCode::invalid_argument, "{}: {}: {}", path.string(), doing,
                    std::strerror(code));
}

struct OpenFile {
  Descriptor file;
  size_t size;
};

/// O_NONBLOCK: a pipe without a writer would else hang here before it can be refused.
Result<OpenFile> open_regular(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return system_error(path, "cannot open");
  struct stat facts;
  if (::fstat(file.fd, &facts) != 0) return system_error(path, "cannot read its facts");
  if (!S_ISREG(facts.st_mode))
    return make_error(ErrorCode::invalid_argument, "{}: expected a regular file, found {}", path.string(),
                      S_ISDIR(facts.st_mode) ? "a folder" : "a device or pipe");
  return OpenFile{std::move(file), static_cast<size_t>(facts.st_size)};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  QUERN_TRY(OpenFile opened, open_regular(path));
  MappedFile out;
  if (opened.size == 0) return out;
  void* data = ::mmap(nullptr, opened.size, PROT_READ, MAP_PRIVATE, opened.file.fd, 0);
  if (data == MAP_FAILED) return system_error(path, "cannot map");
  out.data_ = static_cast<const std::byte*>(data);
  out.size_ = opened.size;
  return out;
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> read_text_file(const std::filesystem::path& path, size_t limit) {
  QUERN_TRY(OpenFile opened, open_regular(path));
  if (opened.size > limit)
    return make_error(ErrorCode::unsupported, "{}: expected at most {} bytes, found {}", path.string(), limit, opened.size);
  std::string text(opened.size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(opened.file.fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "cannot read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  const std::filesystem::path temporary = path.string() + fmt::format(".{}.part", ::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return system_error(temporary, "cannot create");
  return AtomicFile(path, temporary, fd);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(temporary_, "cannot write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return system_error(temporary_, "cannot write");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error(path_, "cannot replace");
  ::close(std::exchange(fd_, -1));
  return {};
}

Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  QUERN_TRY(AtomicFile file, AtomicFile::create(path));
  QUERN_TRY_STATUS(file.write(bytes));
  return file.commit();
}

}  // namespace quern
