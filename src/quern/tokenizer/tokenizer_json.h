// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "quern/base/json.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Tokenizer::from_json on the text itself (fuzzing, tests); `config` may be null.
Result<std::unique_ptr<Tokenizer>> tokenizer_from_json_text(std::string_view text, const Json* config);
/// Tokenizer::from_tiktoken likewise.
Result<std::unique_ptr<Tokenizer>> tokenizer_from_tiktoken_text(std::string_view text, std::string_view pre);

}  // namespace quern
