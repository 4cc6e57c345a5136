// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_facts.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "quern/engine/memory.h"
#include "quern/model/architecture.h"
#include "quern/model/source.h"
#include "quern/server/fill_in.h"
#include "quern/tokenizer/token_texts.h"

namespace quern {
namespace {

std::string main_type(const ModelSource& source) {
  std::map<std::string_view, size_t> bytes;
  if (source.gguf()) {
    for (const gguf::Tensor& tensor : source.gguf()->tensors())
      if (tensor.view.type) bytes[tensor.view.type->name] += tensor.view.data.size();
  } else {
    for (const safetensors::Tensor& tensor : source.folder()->tensors()) bytes[tensor.dtype] += tensor.view.data.size();
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& type) { return type.second; });
  return most == bytes.end() ? std::string() : std::string(most->first);
}

/// What is told of files of weights without opening them.
void add_weights(ModelFacts& facts, const FileState& file) {
  if (!file.facts) return;
  facts.file_bytes += file.facts->bytes;
  facts.written = std::max(facts.written, file.facts->written);
}

ModelFacts common_facts(const ModelSource& source, const Model& model, std::vector<FileState> files) {
  const auto paths = source.paths();
  add_file_states(files, paths);
  ModelFacts out{.info = model.info(),
                 .state = {model.state().begin(), model.state().end()},
                 .main_type = main_type(source),
                 .files = std::move(files)};
  for (const auto& path : paths) add_weights(out, *std::ranges::find(out.files, path, &FileState::path));
  return out;
}

Result<TokenTexts> load_token_texts(const ModelSource& source) {
  if (source.gguf()) return TokenTexts::from_gguf(*source.gguf());
  const auto json = source.folder()->tokenizer_json();
  if (!json)
    return make_error(ErrorCode::not_found, "{}: expected a tokenizer.json, found none",
                      source.folder()->path().string());
  return TokenTexts::from_json(*json);
}

}  // namespace

ModelFacts facts_of(const LoadedModel& model, std::vector<FileState> files) {
  ModelFacts facts = common_facts(model.source(), model.model(), std::move(files));
  if (const auto found = model.chat_template(); found && *found) facts.chat_template = (*found)->source();
  facts.fills_holes = fills_holes([&](std::string_view text) { return model.tokenizer().find(text).has_value(); });
  return facts;
}

Result<ModelFacts> read_model_facts(const std::filesystem::path& path, Isa isa, std::vector<FileState> files) {
  QUERN_TRY(const auto source, ModelSource::open(path));
  QUERN_TRY(const auto model, load_outline(*source, isa));
  ModelFacts facts = common_facts(*source, *model, std::move(files));
  QUERN_TRY(const TokenTexts tokens, load_token_texts(*source));
  QUERN_TRY(const auto text, load_template_source(*source));
  const auto has_token = [&](std::string_view token) { return tokens.has(token); };
  if (const auto compiled = compile_template(text, has_token); compiled && *compiled)
    facts.chat_template = (*compiled)->source();
  facts.fills_holes = fills_holes(has_token);
  return facts;
}

ModelFacts unread_facts(std::vector<FileState> files) {
  ModelFacts out{.files = std::move(files)};
  for (const FileState& file : out.files)
    if (file.path.extension() != ".json" && file.path.extension() != ".jinja") add_weights(out, file);
  return out;
}

bool still_hold(const ModelFacts& facts, const std::filesystem::path& path) {
  std::vector<FileState> now = model_file_states(path);
  for (const FileState& then : facts.files) add_file_states(now, {&then.path, 1});
  return now == facts.files;
}

int64_t possible_context(const ModelFacts& facts, const LoadOptions& options, int64_t room_bytes) {
  if (facts.info.n_vocab == 0) return 0;  // nothing is known
  const int64_t for_state = room_bytes - facts.info.weight_bytes;
  const auto plan = plan_context(facts.info, facts.state, options.kv, options.context, for_state, options.sequences);
  return plan ? plan->tokens : 0;
}

}  // namespace quern
