// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace quern {

/// Bytes of standard base64 (RFC 4648 section 4), padding optional; nothing if a character is none of its alphabet.
std::optional<std::string> base64_decode(std::string_view text);
/// With padding.
std::string base64_encode(std::string_view bytes);

}  // namespace quern
