// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>
#include <unistd.h>

#include "quern/base/json.h"
#include "quern/base/utf8.h"
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/input.h"
#include "quern/cli/jsonl.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/terminal.h"
#include "quern/engine/loaded_model.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {
    {.name = "WHAT",
     .help = "A model, a tokenizer.json, a GGUF file that holds a vocabulary, or a .tiktoken file (with --pre)."},
    {.name = "TEXT", .help = "The text; without it, standard input byte for byte.", .required = false},
};
constexpr OptionSpec kOptions[] = {
    {.name = "--pre",
     .metavar = "NAME",
     .help = "Split rule and special tokens of a .tiktoken file, such as o200k_harmony or qwen.",
     .type = OptionType::text},
    {.name = "--add-special", .help = "Add the tokens that the vocabulary wants around a text."},
    {.name = "--parse-special", .help = "Recognise control tokens in the text."},
    {.name = "--jsonl",
     .help = "JSON lines: {\"text\",\"add_special\",\"parse_special\"} gives {\"ids\"}; {\"ids\"} gives "
             "{\"text\",\"pieces\",\"flush\"}, "
             "the pieces being what a stream shows as each token arrives."},
};
constexpr Example kExamples[] = {
    {.command = "quern tokenize model.gguf \"Hello, world\"", .says = "Show the tokens of a text:"},
    {.command = "quern tokenize tokenizer.json --json < book.txt", .says = "The ids of a file as JSON:"},
};

std::string ids_json(std::span<const TokenId> ids) { return fmt::format("{{\"ids\":[{}]}}", fmt::join(ids, ",")); }

Result<std::vector<TokenId>> ids_of(const Json& list, const Tokenizer& tokenizer) {
  if (!list.is_array()) return make_error(ErrorCode::invalid_argument, "ids: expected an array of integers");
  std::vector<TokenId> ids;
  for (const Json& id : list.array()) {
    if (!id.is_integer() || id.integer() < 0 || id.integer() >= tokenizer.size())
      return make_error(ErrorCode::invalid_argument, "ids: expected integers from 0 to {}, found {}",
                        tokenizer.size() - 1, id.dump().substr(0, 40));
    ids.push_back(static_cast<TokenId>(id.integer()));
  }
  return ids;
}

Result<std::string> decode_line(const Json& list, const Tokenizer& tokenizer) {
  QUERN_TRY(const std::vector<TokenId> ids, ids_of(list, tokenizer));
  StreamDecoder decoder(tokenizer);
  std::string text;
  Json::Array pieces;
  for (TokenId id : ids) {
    std::string piece(decoder.push(id));
    text += piece;
    pieces.emplace_back(std::move(piece));
  }
  std::string rest = decoder.flush();
  Json out;
  out.set("text", text + rest);
  out.set("pieces", std::move(pieces));
  out.set("flush", std::move(rest));
  return out.dump();
}

Result<std::string> encode_line(const Json& line, const Tokenizer& tokenizer) {
  const Json* text = line.find("text");
  if (!text || !text->is_string())
    return make_error(ErrorCode::invalid_argument, "expected a \"text\" that is a string, or \"ids\"");
  QUERN_TRY(const bool add_special, line_flag(line, "add_special", false));
  QUERN_TRY(const bool parse_special, line_flag(line, "parse_special", false));
  return ids_json(tokenizer.encode(text->string(), {add_special, parse_special}));
}

int print_tokens(const Tokenizer& tokenizer, std::span<const TokenId> ids, bool quiet) {
  Output out;
  for (TokenId id : ids) out.line(fmt::format("{:>8}  {}", id, json_quote(utf8_repair(tokenizer.piece(id, true)))));
  const int code = out.finish();
  if (!quiet && code == 0) note(fmt::format("{} tokens", ids.size()));
  return code;
}

int run(const Arguments& arguments) {
  auto path = find_model(*arguments.positional(0));
  if (!path) return report(path.error());
  const auto tokenizer = load_tokenizer(*path, arguments.text("--pre").value_or(""));
  if (!tokenizer) return report(tokenizer.error());
  if (arguments.has("--jsonl")) {
    Output out;
    return answer_lines(STDIN_FILENO, out, [&](const Json& line) -> Result<std::string> {
      const Json* ids = line.find("ids");
      return ids ? decode_line(*ids, **tokenizer) : encode_line(line, **tokenizer);
    });
  }
  std::string text;
  if (auto given = arguments.positional(1)) {
    text = std::move(*given);
  } else {
    auto read = read_all(STDIN_FILENO);
    if (!read) return report(read.error());
    text = std::move(*read);
  }
  const auto ids = (*tokenizer)->encode(text, {arguments.has("--add-special"), arguments.has("--parse-special")});
  if (!arguments.has("--json")) return print_tokens(**tokenizer, ids, arguments.has("--quiet"));
  Output out;
  out.line(ids_json(ids));
  return out.finish();
}

}  // namespace

extern const Command command_tokenize;
const Command command_tokenize = {
    .name = "tokenize",
    .summary = "Turn text into token ids and back.",
    .description =
        "Shows how a model's tokenizer cuts a text. Control tokens in the text are plain text unless --parse-special "
        "is given.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
