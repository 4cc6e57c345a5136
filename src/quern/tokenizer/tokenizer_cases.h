// SPDX-License-Identifier: Apache-2.0
// What the tests of this folder share: golden rows and the tokenizers they belong to.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Where the golden data lies, if it is here.
inline std::filesystem::path shared_folder() {
  for (const char* name : {"QUERN_SHARED_DATA", "QUERN_SHARED"})
    if (const char* value = std::getenv(name)) return value;
  return std::filesystem::path(QUERN_SOURCE_DIR) / "../shared";
}

inline std::filesystem::path tokenizer_test_data() {
  return std::filesystem::path(QUERN_SOURCE_DIR) / "tests/data/tokenizers";
}

/// A file's text, unpacked if its name ends in .xz.
inline std::optional<std::string> read_maybe_packed(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const std::string command = (path.extension() == ".xz" ? "xz -dc '" : "cat '") + path.string() + "'";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return std::nullopt;
  std::string text;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  if (pclose(pipe) != 0) return std::nullopt;
  return text;
}

inline std::vector<Json> json_lines(std::string_view text) {
  std::vector<Json> rows;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (const auto line = text.substr(0, end); !line.empty()) {
      auto row = Json::parse(line);
      if (row) rows.push_back(*std::move(row));
    }
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
  }
  return rows;
}

inline std::vector<TokenId> ids_in(const Json& row, std::string_view key) {
  std::vector<TokenId> ids;
  if (const Json* list = row.find(key))
    for (const Json& id : list->array()) ids.push_back(static_cast<TokenId>(id.integer()));
  return ids;
}

}  // namespace quern
