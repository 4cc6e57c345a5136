// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string_view>

#include "quern/base/result.h"

namespace quern {

/// "path: doing: what errno says". Call it before anything else can change errno.
Error system_error(const std::filesystem::path& path, std::string_view doing);

/// "a folder", "a device", ... for the mode of a stat.
std::string_view file_kind(mode_t mode);

}  // namespace quern
