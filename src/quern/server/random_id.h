// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace quern {

/// A name nobody can guess and no two answers share: the prefix and 128 random bits in hexadecimal. Any thread.
std::string random_id(std::string_view prefix);

}  // namespace quern
