// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/jsonl.h"

#include "quern/cli/input.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

Result<std::string> answer_line(std::string_view text, FunctionRef<Result<std::string>(const Json&)> answer) {
  QUERN_TRY(const Json line, Json::parse(text));
  if (!line.is_object()) return make_error(ErrorCode::invalid_argument, "expected a JSON object on each line");
  return answer(line);
}

}  // namespace

int answer_lines(int in, Output& out, FunctionRef<Result<std::string>(const Json&)> answer) {
  LineReader lines(in);
  while (!out.closed()) {
    auto line = lines.next();
    if (!line) return report(line.error());
    if (!line->has_value()) break;
    if ((*line)->find_first_not_of(" \t") == std::string_view::npos) continue;
    const auto answered = answer_line(**line, answer);
    out.line(answered ? *answered : fmt::format("{{\"error\":{}}}", json_quote(answered.error().message)));
    out.flush();
  }
  return out.finish();
}

Result<bool> line_flag(const Json& line, std::string_view key, bool fallback) {
  const Json* value = line.find(key);
  if (!value || value->is_null()) return fallback;
  if (!value->is_bool()) return make_error(ErrorCode::invalid_argument, "{}: expected true or false", key);
  return value->boolean();
}

Result<std::string> line_text(const Json& line, std::string_view key, std::string_view fallback) {
  const Json* value = line.find(key);
  if (!value || value->is_null()) return std::string(fallback);
  if (!value->is_string()) return make_error(ErrorCode::invalid_argument, "{}: expected a string", key);
  return value->string();
}

}  // namespace quern
