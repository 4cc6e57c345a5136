// SPDX-License-Identifier: Apache-2.0
// A parser of our own: the tables already hold all that a command-line library would be told, and help, man pages and
// completion come from them. CLI11 2.1 was tried for the splitting of words: a prompt that is a command's name runs
// that command, an unknown option such as ---x passes as a prompt, and its error texts are not ours; what would have
// remained of it was less than this file.
#include "quern/cli/arguments.h"

#include <fmt/ranges.h>

#include <charconv>
#include <cmath>

#include "quern/cli/nearest.h"

namespace quern {
namespace {

constexpr std::string_view kIsaNames[] = {"x86-64-v2", "avx2", "avx-vnni", "avx512", "neon"};
constexpr std::string_view kKvNames[] = {"bf16", "int8", "f32"};

constexpr OptionSpec kCommon[] = {
    {.name = "--threads",
     .metavar = "N",
     .help = "Worker threads.",
     .type = OptionType::integer,
     .min = 1,
     .max = 1024,
     .default_text = "the physical cores this process may use"},
    {.name = "--isa",
     .metavar = "LEVEL",
     .help = "Force an instruction-set level; the environment variable QUERN_FORCE_ISA does the same. A level that "
             "this machine lacks is an error; neon is for ARM machines only, the others are for x86.",
     .type = OptionType::choice,
     .choices = kIsaNames,
     .default_text = "the best one here"},
    {.name = "--ctx",
     .metavar = "N",
     .help = "Context length in tokens.",
     .type = OptionType::integer,
     .min = 0,
     .max = 1 << 30,
     .default_text = "what the model was trained for, as far as memory allows"},
    {.name = "--kv",
     .metavar = "TYPE",
     .help = "How keys and values of past tokens are kept.",
     .type = OptionType::choice,
     .choices = kKvNames,
     .default_text = "bf16"},
    {.name = "--memory-budget",
     .metavar = "SIZE",
     .help = "Limit of weights, past tokens and work space together, such as 8G or 512M.",
     .type = OptionType::size,
     .default_text = "what is free, less a reserve"},
    {.name = "--seed",
     .metavar = "N",
     .help = "Seed of sampling. The same seed gives the same answer.",
     .type = OptionType::integer,
     .min = 0,
     .max = 9007199254740991.0,
     .default_text = "random; --json prints it"},
    {.name = "--json", .help = "Print JSON for programs to read."},
    {.name = "--quiet", .help = "No progress, notes or timings."},
    {.name = "--help", .help = "Show this help."},
    {.name = "--version", .help = "Show the version and the instruction-set level in use."},
};

std::string range_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e17) return fmt::format("{}", static_cast<int64_t>(value));
  return fmt::format("{:g}", value);
}

/// A found value as errors show it: long ones cut.
std::string shown(std::string_view text) {
  return fmt::format("'{}{}'", text.substr(0, 60), text.size() > 60 ? "..." : "");
}

template <typename T>
bool parse_whole(std::string_view text, T& out) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

std::vector<std::string_view> option_names(const Command* command) {
  std::vector<std::string_view> names;
  if (command)
    for (const OptionSpec& option : command->options) names.push_back(option.name);
  for (const OptionSpec& option : common_options) names.push_back(option.name);
  return names;
}

}  // namespace

const std::span<const OptionSpec> common_options = kCommon;

const OptionSpec* find_option(const Command* command, std::string_view name) {
  if (command)
    for (const OptionSpec& option : command->options)
      if (option.name == name) return &option;
  for (const OptionSpec& option : common_options)
    if (option.name == name) return &option;
  return nullptr;
}

std::optional<int64_t> parse_size(std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  size_t digits = text.find_first_not_of("0123456789.");
  if (digits == std::string_view::npos) digits = text.size();
  double value = 0;
  if (!parse_whole(text.substr(0, digits), value)) return std::nullopt;
  std::string_view unit = text.substr(digits);
  if (!unit.empty()) {
    const size_t power = kUnits.find(static_cast<char>(unit[0] & ~0x20));
    if (power != std::string_view::npos) {
      value = std::ldexp(value, static_cast<int>(10 * (power + 1)));
      unit.remove_prefix(1);
      if (unit.starts_with('i')) unit.remove_prefix(1);
    }
    if (unit == "B" || unit == "b") unit = {};
    if (!unit.empty()) return std::nullopt;
  }
  if (!(value >= 0) || value >= 9e18) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string expected_text(const OptionSpec& option) {
  const bool ranged = option.min < option.max;
  switch (option.type) {
    case OptionType::flag:
      return "no value";
    case OptionType::text:
      return "a text";
    case OptionType::path:
      return "a path";
    case OptionType::integer:
      return ranged ? fmt::format("an integer from {} to {}", range_number(option.min), range_number(option.max))
                    : "an integer";
    case OptionType::number:
      return ranged ? fmt::format("a number from {} to {}", range_number(option.min), range_number(option.max))
                    : "a number";
    case OptionType::choice:
      return fmt::format("one of {}", fmt::join(option.choices, ", "));
    case OptionType::size:
      return "a size from 1 to 8E, such as 8G or 512M";
  }
  return {};
}

Status check_value(const OptionSpec& option, std::string_view text, int64_t& integer, double& number) {
  const auto in_range = [&](double value) {
    return std::isfinite(value) && (!(option.min < option.max) || (value >= option.min && value <= option.max));
  };
  bool good = true;
  switch (option.type) {
    case OptionType::flag:
      good = text.empty();
      break;
    case OptionType::text:
      break;
    case OptionType::path:
      good = !text.empty();
      break;
    case OptionType::integer:
      good = parse_whole(text, integer) && in_range(static_cast<double>(integer));
      break;
    case OptionType::number:
      good = parse_whole(text, number) && in_range(number);
      break;
    case OptionType::choice:
      good = false;
      for (std::string_view choice : option.choices) good = good || choice == text;
      break;
    case OptionType::size: {
      const auto bytes = parse_size(text);
      good = bytes && *bytes > 0;
      integer = bytes.value_or(0);
      break;
    }
  }
  if (good) return {};
  return make_error(ErrorCode::invalid_argument, "{}: expected {}, found {}", option.name, expected_text(option),
                    shown(text));
}

const Arguments::Given* Arguments::find(std::string_view option) const {
  QUERN_CHECK(find_option(command_, option), "an option that the tables do not have");
  for (auto given = given_.rbegin(); given != given_.rend(); ++given)
    if (given->option->name == option) return &*given;
  return nullptr;
}

std::optional<std::string> Arguments::text(std::string_view option) const {
  const Given* given = find(option);
  return given ? std::optional(given->text) : std::nullopt;
}

std::optional<int64_t> Arguments::integer(std::string_view option) const {
  const Given* given = find(option);
  return given ? std::optional(given->integer) : std::nullopt;
}

std::optional<double> Arguments::number(std::string_view option) const {
  const Given* given = find(option);
  return given ? std::optional(given->number) : std::nullopt;
}

std::vector<std::string> Arguments::texts(std::string_view option) const {
  std::vector<std::string> out;
  for (const Given& given : given_)
    if (given.option->name == option) out.push_back(given.text);
  return out;
}

std::optional<std::string> Arguments::positional(size_t index) const {
  return index < positionals_.size() ? std::optional(positionals_[index]) : std::nullopt;
}

/// One pass over the words of a command; of none: common options alone, before --help or --version.
class LineParser {
 public:
  explicit LineParser(const Command* command) : command_(command) { out_.command_ = command; }

  Result<Invocation> parse(std::span<const std::string> words) {
    bool options_end = false, version = false;
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (options_end || word.size() < 2 || word[0] != '-') {
        out_.positionals_.push_back(word);
      } else if (word == "--") {
        options_end = true;
      } else if (word == "-h" || word == "--help") {
        return Invocation{Invocation::Kind::help, command_, {}};
      } else if (word == "--version") {
        version = true;
      } else {
        QUERN_TRY_STATUS(take_option(words, i));
      }
    }
    if (version) return Invocation{Invocation::Kind::version, nullptr, std::move(out_)};
    if (!command_)
      return make_error(ErrorCode::invalid_argument, "expected a command before the option {}", shown(words[0]));
    QUERN_TRY_STATUS(check_positionals());
    return Invocation{Invocation::Kind::run, command_, std::move(out_)};
  }

 private:
  Error in_command(Error error) const { return command_ ? std::move(error).in(command_->name) : error; }

  template <typename... Args>
  Error wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return in_command(make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...));
  }

  /// words[i] is an option; moves i to its last word.
  Status take_option(std::span<const std::string> words, size_t& i) {
    const std::string_view word = words[i];
    const size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const OptionSpec* option = find_option(command_, name);
    if (!option) return unknown(name);
    Arguments::Given given{option, {}, 0, 0};
    if (equals != std::string_view::npos) {
      if (option->type == OptionType::flag)
        return wrong("{}: expected no value, found {}", name, shown(word.substr(equals + 1)));
      given.text = word.substr(equals + 1);
    } else if (option->type != OptionType::flag) {
      if (i + 1 == words.size()) return wrong("{}: expected {}, found nothing", name, expected_text(*option));
      given.text = words[++i];
      if (find_option(command_, given.text))  // most likely a forgotten value
        return wrong("{}: expected {}, found the option {} (write {}={} to mean it)", name, expected_text(*option),
                     given.text, name, given.text);
    }
    auto good = check_value(*option, given.text, given.integer, given.number);
    if (!good) return in_command(std::move(good).error());
    out_.given_.push_back(std::move(given));
    return {};
  }

  Error unknown(std::string_view name) const {
    const bool negative = name.size() > 1 && name.find_first_not_of("-.0123456789") == std::string_view::npos;
    if (negative) return wrong("unknown option {}: put -- before an argument that begins with a dash", shown(name));
    return wrong("unknown option {}: did you mean {}?", shown(name), nearest_name(name, option_names(command_)));
  }

  Status check_positionals() const {
    const auto& specs = command_->positionals;
    const size_t found = out_.positionals_.size();
    const bool open_end = !specs.empty() && specs.back().repeatable;
    if (found > specs.size() && !open_end)
      return wrong("expected {}, found one more: {}",
                   specs.empty() ? "no argument" : fmt::format("no argument after {}", specs.back().name),
                   shown(out_.positionals_[specs.size()]));
    for (size_t i = found; i < specs.size(); ++i)
      if (specs[i].required)
        return wrong("expected {}, found nothing (quern {} --help)", specs[i].name, command_->name);
    return {};
  }

  const Command* command_;
  Arguments out_;
};

Result<Invocation> parse_command_line(std::span<const Command* const> commands, std::span<const std::string> words) {
  using Kind = Invocation::Kind;
  std::vector<std::string_view> names;
  for (const Command* command : commands) names.push_back(command->name);
  if (words.empty())
    return make_error(ErrorCode::invalid_argument, "expected a command, found nothing (quern --help lists them)");

  const auto find_command = [&](std::string_view name) -> Result<const Command*> {
    for (const Command* command : commands)
      if (command->name == name) return command;
    const std::string_view near = near_name(name, names);
    return make_error(ErrorCode::invalid_argument, "unknown command {}{} (quern --help lists all)", shown(name),
                      near.empty() ? std::string() : fmt::format(": did you mean {}?", near));
  };
  const std::string& first = words[0];
  if (first == "--help" || first == "-h" || (first == "help" && words.size() == 1))
    return Invocation{Kind::help, nullptr, {}};
  if (first == "help") {
    QUERN_TRY(const Command* command, find_command(words[1]));
    return Invocation{Kind::help, command, {}};
  }
  if (first.starts_with('-')) return LineParser(nullptr).parse(words);
  QUERN_TRY(const Command* command, find_command(first));
  return LineParser(command).parse(words.subspan(1));
}

}  // namespace quern
