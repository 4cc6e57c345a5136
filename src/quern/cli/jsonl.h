// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "quern/base/function_ref.h"
#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/cli/output.h"

namespace quern {

/// JSON lines in, JSON lines out, one for one and in order; each answer leaves before the next line is waited for. A
/// line that is no JSON object, or whose answer is an error, gives {"error": "..."} and the next one follows; empty
/// lines are skipped. `answer` returns one JSON object as text. Returns the exit code.
int answer_lines(int in, Output& out, FunctionRef<Result<std::string>(const Json& line)> answer);

// Members of a line, checked: absent or null gives the fallback, another kind is an error that names the key.
Result<bool> line_flag(const Json& line, std::string_view key, bool fallback);
Result<std::string> line_text(const Json& line, std::string_view key, std::string_view fallback);

}  // namespace quern
