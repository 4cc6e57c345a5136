// SPDX-License-Identifier: Apache-2.0
#include "quern/io/system_error.h"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>

namespace quern {

Error system_error(const std::filesystem::path& path, std::string_view doing) {
  const int code = errno;
  const bool absent = code == ENOENT || code == ENOTDIR;
  return make_error(absent ? ErrorCode::not_found : ErrorCode::invalid_argument, "{}: {}: {}", path.string(), doing,
                    std::generic_category().message(code));
}

std::string_view file_kind(mode_t mode) {
  if (S_ISREG(mode)) return "a regular file";
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace quern
