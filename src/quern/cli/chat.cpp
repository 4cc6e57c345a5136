// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/chat.h"

#include <optional>

#include "quern/cli/chat_line.h"
#include "quern/cli/conversation.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/line_editor.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/sampling_arguments.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr std::string_view kPrompt = "> ", kContinued = "... ";
constexpr OptionSpec kMaxTokens = {
    .name = "--max-tokens", .metavar = "N", .help = "", .type = OptionType::integer, .min = 1, .max = 1 << 30};
constexpr OptionSpec kSeed = {
    .name = "--seed", .metavar = "N", .help = "", .type = OptionType::integer, .min = 0, .max = 9007199254740991.0};

std::filesystem::path history_file() {
  const auto folder = state_folder();
  return folder.empty() ? folder : folder / "history";
}

/// `check_value`, with the words of a chat: "/set temp: expected a number from 0 to 100, found nothing".
Status check_setting(OptionSpec option, std::string_view value, int64_t& integer, double& number) {
  const std::string name = fmt::format("/set {}", option.name.substr(2));
  option.name = name;
  if (value.empty())
    return make_error(ErrorCode::invalid_argument, "{}: expected {}, found nothing", name, expected_text(option));
  return check_value(option, value, integer, number);
}

class Chat {
 public:
  Chat(LoadedModel& model, ChatOptions options)
      : model_(model),
        options_(std::move(options)),
        session_(model.session()),
        editor_(std::string(kPrompt), history_file()) {
    conversation_.set_system(options_.system);
  }

  int run() {
    if (!options_.style.quiet) {
      note("/help lists the commands, Ctrl-D ends the chat");
      if (const auto limited = context_note(model_)) note(*limited);
    }
    while (!ended_ && !terminated() && !out_.closed()) {
      const auto line = next_line();
      if (line) take(*line);
    }
    return terminated() ? 130 : out_.finish();
  }

 private:
  /// A whole entry: lines that end with a backslash go on. Nothing where Ctrl-C dropped it or the chat ends.
  std::optional<std::string> next_line() {
    std::string text;
    while (true) {
      const LineEditor::Read read = editor_.read();
      switch (read.end) {
        case LineEditor::End::end_of_input:
          out_.line("");
          ended_ = true;
          return std::nullopt;
        case LineEditor::End::interrupted:
          interrupt_flag().store(false);
          ended_ = ended_ || (dropped_ && text.empty());  // twice in a row
          if (!ended_ && !dropped_) note("Ctrl-C once more, Ctrl-D or /quit ends the chat");
          dropped_ = true;
          return std::nullopt;
        case LineEditor::End::line:
          break;
      }
      dropped_ = false;
      text += read.text;
      if (!text.ends_with('\\')) return text;
      text.back() = '\n';
      out_.write(kContinued);
      out_.flush();
    }
  }

  void take(const std::string& text) {
    if (text.find_first_not_of(" \t\n") == std::string::npos) return;
    const auto line = parse_chat_line(text);
    if (!line)
      report(line.error());
    else if (line->command)
      obey(*line);
    else
      answer(line->rest);
  }

  void obey(const ChatLine& line) {
    switch (line.command->kind) {
      case ChatCommand::Kind::help:
        out_.write(chat_help());
        break;
      case ChatCommand::Kind::clear:
        conversation_.clear();
        break;
      case ChatCommand::Kind::system:
        conversation_.set_system(line.rest);
        break;
      case ChatCommand::Kind::quit:
        ended_ = true;
        break;
      case ChatCommand::Kind::save:
        save(expand_home(line.rest));
        break;
      case ChatCommand::Kind::load:
        load(expand_home(line.rest));
        break;
      case ChatCommand::Kind::set:
        if (auto done = set(line.rest); !done) report(done.error());
        break;
    }
    out_.flush();
  }

  void save(const std::string& path) {
    if (auto saved = conversation_.save(path); !saved)
      report(saved.error());
    else
      note(fmt::format("saved {} messages to {}", conversation_.messages().size(), path));
  }

  void load(const std::string& path) {
    auto loaded = Conversation::load(path);
    if (!loaded) {
      report(loaded.error());
      return;
    }
    conversation_ = *std::move(loaded);
    note(fmt::format("{} messages from {}", conversation_.messages().size(), path));
  }

  /// "/set top-k 40"
  Status set(std::string_view text) {
    const size_t blank = text.find_first_of(" \t");
    const std::string name = fmt::format("--{}", text.substr(0, blank));
    std::string_view value = blank == std::string_view::npos ? std::string_view() : text.substr(blank);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    int64_t integer = 0;
    double number = 0;
    for (const OptionSpec* option : {&kMaxTokens, &kSeed}) {
      if (option->name != name) continue;
      QUERN_TRY_STATUS(check_setting(*option, value, integer, number));
      if (option == &kMaxTokens)
        options_.generate.max_tokens = integer;
      else
        options_.generate.sampling.seed = static_cast<uint64_t>(integer);
      return {};
    }
    for (const OptionSpec& option : kSamplingOptions) {
      if (option.name != name || option.repeatable) continue;
      QUERN_TRY_STATUS(check_setting(option, value, integer, number));
      set_sampling(options_.generate.sampling, name,
                   option.type == OptionType::integer ? static_cast<double>(integer) : number);
      return {};
    }
    return make_error(ErrorCode::invalid_argument, "/set: expected a setting that /help lists, found '{}'",
                      text.substr(0, std::min<size_t>(blank, 60)));
  }

  void answer(std::string_view text) {
    conversation_.add_user(text);
    auto written = write();
    if (!written) {
      conversation_.drop_last();
      report(written.error());
      if (session_.length() * 10 >= session_.max_length() * 8) advise();
      return;
    }
    conversation_.add_assistant(written->text, written->reasoning);
    out_.line("");
    out_.flush();
    if (!options_.style.quiet) note(speed_text(written->generated));
    const Generated& g = written->generated;
    if (g.prompt_tokens + static_cast<int64_t>(g.ids.size()) >= session_.max_length()) advise();
    ++options_.generate.sampling.seed;
    if (!terminated()) interrupt_flag().store(false);  // Ctrl-C stopped the answer, not the chat
  }

  Result<Answer> write() {
    // A Ctrl-C that came as the line was sent was not meant for what follows.
    if (!terminated()) interrupt_flag().store(false);
    QUERN_TRY(const Prompt prompt, chat_prompt(model_, conversation_.messages(), options_.thinking));
    return write_answer(model_, session_, prompt, options_.generate, options_.style, out_);
  }

  void advise() const {
    note(fmt::format("the context of {} tokens is full: /clear begins anew, a larger --ctx holds more",
                     session_.max_length()));
  }

  LoadedModel& model_;
  ChatOptions options_;
  Session session_;
  LineEditor editor_;
  Conversation conversation_;
  Output out_;
  bool ended_ = false, dropped_ = false;
};

}  // namespace

int chat(LoadedModel& model, ChatOptions options) { return Chat(model, std::move(options)).run(); }

}  // namespace quern
