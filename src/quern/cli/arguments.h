// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/cli/command.h"

namespace quern {

/// Options that every command takes.
extern const std::span<const OptionSpec> common_options;

/// The option of that name, of the command (may be null) or common; null pointer if there is none.
const OptionSpec* find_option(const Command* command, std::string_view name);

/// What stood on a command line, checked against the command's tables: numbers are numbers and in range, choices are
/// among the choices. Asking for a name that the tables do not have is our bug (QUERN_CHECK). Of an option given twice
/// the last one counts, unless it is repeatable.
class Arguments {
 public:
  Arguments() = default;
  explicit Arguments(const Command& command) : command_(&command) {}

  bool has(std::string_view option) const { return find(option) != nullptr; }
  std::optional<std::string> text(std::string_view option) const;
  std::optional<int64_t> integer(std::string_view option) const;
  std::optional<double> number(std::string_view option) const;
  std::optional<int64_t> size(std::string_view option) const { return integer(option); }  ///< bytes
  std::vector<std::string> texts(std::string_view option) const;  ///< of a repeatable one, in order

  std::span<const std::string> positionals() const { return positionals_; }
  std::optional<std::string> positional(size_t index) const;

  const Command* command() const { return command_; }

 private:
  friend class LineParser;
  struct Given {
    const OptionSpec* option;
    std::string text;
    int64_t integer = 0;
    double number = 0;
  };
  const Given* find(std::string_view option) const;

  const Command* command_ = nullptr;
  std::vector<Given> given_;
  std::vector<std::string> positionals_;
};

/// What a command line asks for.
struct Invocation {
  enum class Kind : uint8_t { run, help, version } kind = Kind::run;
  const Command* command = nullptr;  ///< null: help or version of the whole program
  Arguments arguments;
};

/// Parses the words after the program's name. `--name value`, `--name=value`, `--` ends the options, a lone `-` is a
/// positional. An error is one line that names the command, the option, what was expected and what was found.
Result<Invocation> parse_command_line(std::span<const Command* const> commands, std::span<const std::string> words);

/// Checks one value against an option's type and range; `integer` and `number` receive what it means.
Status check_value(const OptionSpec& option, std::string_view text, int64_t& integer, double& number);

/// "8G", "512M", "1.5GiB", "4096": bytes, factors of 1024.
std::optional<int64_t> parse_size(std::string_view text);

/// What `check_value` accepts, in words: "a number from 0 to 1".
std::string expected_text(const OptionSpec& option);

/// Two tables in one, for a command whose options come partly from a shared table.
template <size_t A, size_t B>
constexpr std::array<OptionSpec, A + B> join_options(const OptionSpec (&a)[A], const OptionSpec (&b)[B]) {
  std::array<OptionSpec, A + B> out;
  for (size_t i = 0; i < A; ++i) out[i] = a[i];
  for (size_t i = 0; i < B; ++i) out[A + i] = b[i];
  return out;
}

}  // namespace quern
