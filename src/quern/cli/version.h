// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace quern {

inline constexpr std::string_view kVersion = QUERN_VERSION;  // from CMake's project()

}  // namespace quern
