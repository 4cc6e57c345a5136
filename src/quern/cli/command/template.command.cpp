// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "quern/base/json.h"
#include "quern/chat/chat_template.h"
#include "quern/cli/arguments.h"
#include "quern/cli/chat_context.h"
#include "quern/cli/command.h"
#include "quern/cli/jsonl.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/terminal.h"
#include "quern/engine/loaded_model.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {
    {.name = "WHAT",
     .help = "A model, a .jinja file, a tokenizer_config.json, or - where every line brings its own template."},
};
constexpr OptionSpec kOptions[] = {
    {.name = "--message",
     .metavar = "TEXT",
     .help = "Render a conversation of this one message of a user.",
     .type = OptionType::text},
    {.name = "--jsonl",
     .help = "JSON lines: "
             "{\"messages\",\"tools\",\"add_generation_prompt\",\"kwargs\",\"bos_token\",\"eos_token\",\"now\"} gives "
             "{\"text\"} or {\"error\"}; {\"template\",\"context\"} renders that template."},
};
constexpr Example kExamples[] = {
    {.command = "quern template model.gguf", .says = "Show a model's chat template:"},
    {.command = "quern template model.gguf --message \"Hello\"", .says = "Show the prompt that a question becomes:"},
};

struct Loaded {
  ChatTemplate chat_template;
  TemplateSource source;
};

Result<std::optional<Loaded>> load(const std::string& what) {
  if (what == "-") return std::optional<Loaded>();
  QUERN_TRY(const auto path, find_model(what));
  QUERN_TRY(auto source, load_template_source(path));
  if (!source) return make_error(ErrorCode::not_found, "{}: expected a chat template, found none", what);
  auto compiled = ChatTemplate::compile(source->text);
  if (!compiled) return std::move(compiled).error().in(what);
  return std::optional(Loaded{*std::move(compiled), *std::move(source)});
}

Json member(const Json& line, std::string_view key) {
  const Json* value = line.find(key);
  return value ? *value : Json();
}

Result<ChatContext> context_of(const Json& line, const TemplateSource& source) {
  ChatContext context;
  context.messages = member(line, "messages");
  context.tools = member(line, "tools");
  context.documents = member(line, "documents");
  context.kwargs = member(line, "kwargs");
  if (!context.messages.is_array()) return make_error(ErrorCode::invalid_argument, "messages: expected an array");
  if (!context.kwargs.is_null() && !context.kwargs.is_object())
    return make_error(ErrorCode::invalid_argument, "kwargs: expected an object");
  QUERN_TRY(context.add_generation_prompt, line_flag(line, "add_generation_prompt", false));
  QUERN_TRY(context.bos_token, line_text(line, "bos_token", source.bos_token));
  QUERN_TRY(context.eos_token, line_text(line, "eos_token", source.eos_token));
  return context;
}

Result<std::string> render(const ChatTemplate& chat_template, const Json& context, std::tm now) {
  QUERN_TRY(const std::vector<Segment> segments, chat_template.render(context, now));
  return join_segments(segments);
}

Result<std::string> render_line(const Json& line, const std::optional<Loaded>& loaded) {
  std::tm now = local_now();
  if (const Json* given = line.find("now"); given && !given->is_null()) {
    if (!given->is_string()) return make_error(ErrorCode::invalid_argument, "now: expected a string");
    QUERN_TRY(now, parse_time(given->string()));
  }
  if (const Json* own = line.find("template"); own && own->is_string()) {
    const Json context = member(line, "context");
    if (!context.is_null() && !context.is_object())
      return make_error(ErrorCode::invalid_argument, "context: expected an object");
    QUERN_TRY(const ChatTemplate chat_template, ChatTemplate::compile(own->string()));
    return render(chat_template, context.is_null() ? Json(Json::Object()) : context, now);
  }
  if (!loaded) return make_error(ErrorCode::invalid_argument, "expected a \"template\" on the line, as WHAT is -");
  QUERN_TRY(const ChatContext context, context_of(line, loaded->source));
  return render(loaded->chat_template, context.json(), now);
}

Result<std::string> answer(const Json& line, const std::optional<Loaded>& loaded) {
  QUERN_TRY(std::string text, render_line(line, loaded));
  Json out;
  out.set("text", std::move(text));
  return out.dump();
}

int print(const Loaded& loaded, const Arguments& arguments) {
  std::string text = loaded.source.text;
  if (const auto message = arguments.text("--message")) {
    ChatContext context;
    context.messages = Json::Array{Json(Json::Object{{"role", "user"}, {"content", *message}})};
    context.add_generation_prompt = true;
    context.bos_token = loaded.source.bos_token;
    context.eos_token = loaded.source.eos_token;
    auto rendered = render(loaded.chat_template, context.json(), local_now());
    if (!rendered) return report(rendered.error());
    text = *std::move(rendered);
  }
  Output out;
  if (arguments.has("--json")) {
    Json json;
    json.set(arguments.has("--message") ? "text" : "template", text);
    json.set("bos_token", loaded.source.bos_token);
    json.set("eos_token", loaded.source.eos_token);
    Json::Array variables;
    for (std::string& name : loaded.chat_template.variables()) variables.emplace_back(std::move(name));
    json.set("variables", std::move(variables));
    out.line(json.dump());
  } else {
    out.write(text);
    if (!text.ends_with('\n') && is_terminal(STDOUT_FILENO)) out.write("\n");
  }
  return out.finish();
}

int run(const Arguments& arguments) {
  const std::string what = *arguments.positional(0);
  if (what == "-" && !arguments.has("--jsonl"))
    return report_usage(
        make_error(ErrorCode::invalid_argument, "template: WHAT: expected a file or a model, as - goes with --jsonl"));
  const auto loaded = load(what);
  if (!loaded) return report(loaded.error());
  if (!arguments.has("--jsonl")) return print(**loaded, arguments);
  Output out;
  return answer_lines(STDIN_FILENO, out, [&](const Json& line) { return answer(line, *loaded); });
}

}  // namespace

extern const Command command_template;
const Command command_template = {
    .name = "template",
    .summary = "Show or render a chat template.",
    .description =
        "Without options prints the chat template itself. Rendering follows the environment that published templates "
        "are written "
        "for (Jinja2 as Hugging Face's transformers sets it up).",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
