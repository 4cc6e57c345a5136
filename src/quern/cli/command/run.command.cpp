// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <array>

#include "quern/cli/answer.h"
#include "quern/cli/arguments.h"
#include "quern/cli/chat.h"
#include "quern/cli/command.h"
#include "quern/cli/input.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/prompt.h"
#include "quern/cli/sampling_arguments.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {
    {.name = "MODEL", .help = kModelHelp},
    {.name = "PROMPT",
     .help = "The question; without it, standard input if that is no terminal, else a chat begins.",
     .required = false},
};
constexpr OptionSpec kOwnOptions[] = {
    {.name = "--raw", .help = "Continue the text as it is, without the model's chat template."},
    {.name = "--parse-special", .help = "With --raw: recognise control tokens in the text."},
    {.name = "--system",
     .metavar = "TEXT",
     .help = "The system text before the conversation.",
     .type = OptionType::text},
    {.name = "--max-tokens",
     .metavar = "N",
     .help = "End the answer after so many tokens.",
     .type = OptionType::integer,
     .min = 1,
     .max = 1 << 30,
     .default_text = "when the model ends it, or the context is full"},
    {.name = "--stop",
     .metavar = "TEXT",
     .help = "End the answer before this text.",
     .type = OptionType::text,
     .repeatable = true},
    {.name = "--no-think", .help = "Ask the model not to reason before it answers, where its template can."},
};
constexpr auto kOptions = join_options(kOwnOptions, kSamplingOptions);
constexpr Example kExamples[] = {
    {.command = "quern run model.gguf \"Why is the sky blue?\"", .says = "One answer:"},
    {.command = "quern run model.gguf", .says = "A chat:"},
    {.command = "quern run model.gguf --system \"Summarise in three sentences.\" < report.txt",
     .says = "A text from a file:"},
    {.command = "quern run model.gguf \"The sea is\" --raw --temp 0 --max-tokens 32 --json",
     .says = "Continue a text, for a program:"},
};

GenerateOptions generate_options(const Arguments& arguments, const LoadedModel& model, SamplingOptions sampling) {
  GenerateOptions out;
  out.sampling = std::move(sampling);
  out.max_tokens = arguments.integer("--max-tokens").value_or(-1);
  out.stops = arguments.texts("--stop");
  out.end_ids = model.defaults().end_ids;
  return out;
}

AnswerStyle answer_style(const Arguments& arguments) {
  AnswerStyle style;
  style.stream = !arguments.has("--json");
  style.split_reasoning = !arguments.has("--raw");
  style.show_reasoning = is_terminal(STDOUT_FILENO);
  style.dim_reasoning = has_colour(STDOUT_FILENO);
  style.quiet = arguments.has("--quiet");
  return style;
}

Result<Prompt> one_prompt(const LoadedModel& model, const Arguments& arguments, std::string_view text) {
  if (arguments.has("--raw"))
    return raw_prompt(model, text, arguments.has("--parse-special") ? Special::parsed : Special::plain);
  Json::Array messages;
  if (const auto system = arguments.text("--system"); system && !system->empty())
    messages.push_back(message("system", *system));
  messages.push_back(message("user", text));
  return chat_prompt(model, messages, arguments.has("--no-think") ? Thinking::off : Thinking::as_the_model_likes);
}

int answer_once(LoadedModel& model, const Arguments& arguments, const SamplingOptions& sampling,
                std::string_view text) {
  const auto prompt = one_prompt(model, arguments, text);
  if (!prompt) return report(prompt.error());
  if (prompt->ids.empty())
    return report(make_error(ErrorCode::invalid_argument, "PROMPT: expected at least one token, found none"));
  Session session = model.session();
  Output out;
  const auto answer =
      write_answer(model, session, *prompt, generate_options(arguments, model, sampling), answer_style(arguments), out);
  if (!answer) {
    out.flush();
    return report(answer.error());
  }
  const bool cancelled = answer->generated.finish == FinishReason::cancelled;
  if (arguments.has("--json"))
    out.line(answer_json(*answer, sampling.seed).dump());
  else if (!answer->text.ends_with('\n'))
    out.line("");
  const int code = out.finish(cancelled ? 130 : 0);
  if (!arguments.has("--json") && !arguments.has("--quiet") && code == 0) {
    if (const auto limited = context_note(model)) note(*limited);
    note(speed_text(answer->generated));
  }
  return code;
}

/// PROMPT, or all of standard input less the line break at its end; nothing: a chat.
Result<std::optional<std::string>> question(const Arguments& arguments) {
  if (auto given = arguments.positional(1)) return given;
  if (is_terminal(STDIN_FILENO)) return std::optional<std::string>();
  QUERN_TRY(std::string text, read_all(STDIN_FILENO));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty())
    return make_error(ErrorCode::invalid_argument, "run: expected a PROMPT, or text on standard input, found neither");
  return std::optional(std::move(text));
}

/// Options that would have no effect together are a mistake; 0 if there are none.
int check_options(const Arguments& arguments) {
  const auto refuse = [](std::string_view option, std::string_view expected) {
    return report_usage(make_error(ErrorCode::invalid_argument, "run: {}: expected {}", option, expected));
  };
  for (const char* of_template : {"--system", "--no-think"})
    if (arguments.has("--raw") && arguments.has(of_template))
      return refuse(of_template, "no --raw with it, as it goes through the chat template, found both");
  if (arguments.has("--parse-special") && !arguments.has("--raw"))
    return refuse("--parse-special", "--raw with it, as a chat template does without, found none");
  return 0;
}

/// What else can be refused before a model is loaded; 0 if all is well.
int check_usage(const Arguments& arguments, const std::optional<std::string>& text) {
  for (const std::string& bias : arguments.texts("--logit-bias"))
    if (auto parsed = parse_logit_bias(bias); !parsed) return report_usage(std::move(parsed).error().in("run"));
  for (const std::string& stop : arguments.texts("--stop"))
    if (stop.empty())
      return report_usage(make_error(ErrorCode::invalid_argument, "run: --stop: expected a text, found an empty one"));
  for (const char* chat_only : {"--raw", "--json"})
    if (!text && arguments.has(chat_only))
      return report_usage(
          make_error(ErrorCode::invalid_argument, "run: {}: expected a PROMPT with it, found none", chat_only));
  return 0;
}

int run(const Arguments& arguments) {
  if (const int wrong = check_options(arguments)) return wrong;
  const auto text = question(arguments);
  if (!text)
    return text.error().code == ErrorCode::invalid_argument ? report_usage(text.error()) : report(text.error());
  if (const int wrong = check_usage(arguments, *text)) return wrong;
  const auto model = load_named_model(arguments);
  if (!model) return report(model.error());
  auto sampling = sampling_options(arguments, (*model)->defaults());
  if (!sampling) return report(sampling.error());
  sampling->seed = seed_of(arguments);
  if (auto good = check_sampling(*sampling, (*model)->model().info().n_vocab); !good) return report(good.error());
  if (*text) return answer_once(**model, arguments, *sampling, **text);
  ChatOptions options;
  options.system = arguments.text("--system").value_or("");
  options.generate = generate_options(arguments, **model, *std::move(sampling));
  options.thinking = arguments.has("--no-think") ? Thinking::off : Thinking::as_the_model_likes;
  options.style = answer_style(arguments);
  return chat(**model, std::move(options));
}

}  // namespace

extern const Command command_run;
const Command command_run = {
    .name = "run",
    .summary = "Answer a question, or chat.",
    .description =
        "Writes the answer as it comes. With a PROMPT, or text on standard input, one answer; at a terminal without "
        "one, a chat with history (/help there "
        "lists its commands). What a model reasons before it answers is shown on a terminal only, and is apart in "
        "--json.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
