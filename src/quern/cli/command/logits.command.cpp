// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/base/json.h"
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/npy.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"
#include "quern/cli/prompt.h"
#include "quern/cli/terminal.h"
#include "quern/io/mapped_file.h"

namespace quern {
namespace {

constexpr PositionalSpec kPositionals[] = {{.name = "MODEL", .help = kModelHelp}};
constexpr OptionSpec kOptions[] = {
    {.name = "--tokens", .metavar = "FILE", .help = "A JSON array of token ids.", .type = OptionType::path},
    {.name = "--prompt",
     .metavar = "TEXT",
     .help = "A text instead, through the model's chat template.",
     .type = OptionType::text},
    {.name = "--raw", .help = "Take the text of --prompt as it is."},
    {.name = "--out", .metavar = "FILE", .help = "The .npy file to write.", .type = OptionType::path},
    {.name = "--batch",
     .metavar = "N",
     .help = "Read the tokens in pieces of N; 1 is how an answer is written. The logits do not depend on it.",
     .type = OptionType::integer,
     .min = 1,
     .max = 65536,
     .default_text = "up to 512"},
};
constexpr Example kExamples[] = {
    {.command = "quern logits model.gguf --tokens ids.json --out logits.npy", .says = "Logits after every token:"},
    {.command = "quern logits model.gguf --prompt \"Hello\" --raw --out logits.npy", .says = "Of a text:"},
};

/// Logits of one step are kept in memory: this many bytes at most, unless --batch says more.
constexpr int64_t kRowsBytes = int64_t{64} << 20;

Result<std::vector<int32_t>> read_ids(const std::string& path) {
  QUERN_TRY(const std::string text, read_text_file(path));
  const auto json = Json::parse(text);
  if (!json) return Error(json.error()).in(path);
  if (!json->is_array() || json->array().empty())
    return make_error(ErrorCode::invalid_argument, "{}: expected a JSON array of at least one token id", path);
  std::vector<int32_t> ids;
  for (const Json& id : json->array()) {
    if (!id.is_integer() || id.integer() < 0 || id.integer() > INT32_MAX)
      return make_error(ErrorCode::invalid_argument, "{}: expected token ids, found {}", path, id.dump().substr(0, 40));
    ids.push_back(static_cast<int32_t>(id.integer()));
  }
  return ids;
}

Result<std::vector<int32_t>> prompt_ids(const LoadedModel& model, const Arguments& arguments) {
  const std::string text = *arguments.text("--prompt");
  if (arguments.has("--raw")) return raw_prompt(model, text).ids;
  QUERN_TRY(Prompt prompt, chat_prompt(model, {message("user", text)}, Thinking::as_the_model_likes));
  return std::move(prompt.ids);
}

Status write_logits(LoadedModel& model, std::span<const int32_t> ids, const Arguments& arguments) {
  const int64_t n_vocab = model.model().info().n_vocab;
  for (int32_t id : ids)
    if (id >= n_vocab)
      return make_error(ErrorCode::invalid_argument, "token ids: expected less than {}, found {}", n_vocab, id);
  const int64_t fitting = std::clamp<int64_t>(kRowsBytes / (n_vocab * 4), 1, 512);
  const auto batch = static_cast<int>(arguments.integer("--batch").value_or(fitting));
  Session session = model.session(batch);
  const auto total = static_cast<int64_t>(ids.size());
  if (total > session.max_length())
    return make_error(ErrorCode::invalid_argument, "tokens: {} of them, the context holds {}", total,
                      session.max_length());

  QUERN_TRY(NpyWriter writer, NpyWriter::create(*arguments.text("--out"), total, n_vocab));
  Progress progress("computing", Unit::tokens, arguments.has("--quiet"));
  int64_t done = 0;
  Status written;
  auto computed = session.append_all(ids, [&](std::span<const float> rows) {
    written = writer.write(rows);
    done += static_cast<int64_t>(rows.size()) / n_vocab;
    progress.update(done, total);
    return written.has_value() && (done == total || !interrupted());
  });
  if (!written) return written;  // the reason why the computing stopped
  if (!computed) return computed;
  return writer.finish();
}

Status compute(const Arguments& arguments) {
  std::vector<int32_t> ids;
  if (const auto file = arguments.text("--tokens")) {
    QUERN_TRY(ids, read_ids(*file));
  }
  // Enough for the ids; a prompt's length is known only with the tokenizer at hand.
  QUERN_TRY(const auto model, load_named_model(arguments, static_cast<int64_t>(ids.size())));
  if (ids.empty()) {
    QUERN_TRY(ids, prompt_ids(*model, arguments));
    if (ids.empty())
      return make_error(ErrorCode::invalid_argument, "--prompt: expected at least one token, found none");
  }
  QUERN_TRY_STATUS(write_logits(*model, ids, arguments));
  if (arguments.has("--json")) {
    Output out;
    out.line(Json(Json::Object{{"n_tokens", static_cast<int64_t>(ids.size())},
                               {"n_vocab", model->model().info().n_vocab},
                               {"out", *arguments.text("--out")}})
                 .dump());
  }
  return {};
}

int run(const Arguments& arguments) {
  if (arguments.has("--tokens") == arguments.has("--prompt"))
    return report_usage(make_error(ErrorCode::invalid_argument,
                                   "logits: expected either --tokens FILE or --prompt TEXT, found {}",
                                   arguments.has("--tokens") ? "both" : "neither"));
  if (!arguments.has("--out"))
    return report_usage(make_error(ErrorCode::invalid_argument, "logits: expected --out FILE, found nothing"));
  if (auto done = compute(arguments); !done) return report(done.error());
  return 0;
}

}  // namespace

extern const Command command_logits;
const Command command_logits = {
    .name = "logits",
    .summary = "Write a model's logits to a NumPy file.",
    .description =
        "Writes float32 [n_tokens, n_vocab]: row i is what the model says about the token after token i. For checking "
        "against references.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
