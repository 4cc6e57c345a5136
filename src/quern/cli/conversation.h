// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

/// The messages of a chat, as templates take them.
class Conversation {
 public:
  const Json::Array& messages() const { return messages_; }
  bool empty() const { return messages_.empty(); }

  /// Sets, replaces or (empty text) removes the system message, always the first.
  void set_system(std::string_view text);
  void add_user(std::string_view text);
  void add_assistant(std::string_view text, std::string_view reasoning);
  /// Takes back the last message of the user, which found no answer.
  void drop_last();
  /// All but the system message.
  void clear();

  /// {"messages":[...]}, written in one step.
  Status save(const std::filesystem::path& path) const;
  /// The same, or an array of messages. Roles and contents are checked.
  static Result<Conversation> load(const std::filesystem::path& path);
  static Result<Conversation> parse(std::string_view text);

 private:
  Json::Array messages_;
};

}  // namespace quern
