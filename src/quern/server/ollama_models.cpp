// SPDX-License-Identifier: Apache-2.0
#include "quern/server/ollama_models.h"

#include <algorithm>
#include <chrono>
#include <span>

#include "quern/base/sha256.h"
#include "quern/server/fields.h"
#include "quern/server/ollama_answer.h"

namespace quern {
namespace {

constexpr std::string_view kLatest = ":latest";

/// Tells one state of a model's files from another, over restarts too; Ollama hashes the content, which takes a while
/// for gigabytes. Made of nothing that a copy cannot keep: servers of the same files tell the same.
std::string digest_of(const ModelCard& card, const ModelDetails& details) {
  Sha256 sha;
  const auto add = [&](const std::string& text) { sha.update(std::as_bytes(std::span(text))); };
  add(card.name + "\n");
  for (const FileState& file : details.facts->files) {
    if (!file.facts) continue;
    const FileTime written = file.facts->written;
    add(fmt::format("{}\n{} {}.{}\n", file.path.filename().string(), file.facts->bytes, written.seconds,
                    written.nanoseconds));
  }
  return sha.finish();
}

/// "134.5M", "7.6B"; empty where unknown.
std::string parameter_size(int64_t parameters) {
  struct Unit {
    double size;
    char name;
  };
  for (const auto [size, name] : {Unit{1e9, 'B'}, Unit{1e6, 'M'}, Unit{1e3, 'K'}})
    if (static_cast<double>(parameters) >= size)
      return fmt::format("{:.1f}{}", static_cast<double>(parameters) / size, name);
  return {};
}

std::string_view without_latest(std::string_view name) {
  if (name.ends_with(kLatest)) name.remove_suffix(kLatest.size());
  return name;
}

}  // namespace

Json ollama_details(const ModelDetails& details) {
  const ModelInfo& info = details.facts->info;
  return Json::Object{{"parent_model", ""},
                      {"format", details.format},
                      {"family", info.architecture},
                      {"families", Json::Array{info.architecture}},
                      {"parameter_size", parameter_size(info.parameters)},
                      {"quantization_level", details.facts->main_type}};
}

Json ollama_model_object(const ModelCard& card, const ModelDetails& details) {
  return Json::Object{{"name", card.name},
                      {"model", card.name},
                      {"modified_at", rfc3339(std::chrono::sys_seconds(std::chrono::seconds(details.created)))},
                      {"size", details.file_bytes},
                      {"digest", digest_of(card, details)},
                      {"details", ollama_details(details)}};
}

// "0", "0s", "0m0s", 0: digits, and none but zeros.
bool asks_to_unload(const Json& body) {
  const Json* time = field(body, "keep_alive");
  if (!time) return false;
  if (time->is_number()) return time->number() == 0;
  return time->is_string() && time->string().find('0') != std::string::npos &&
         time->string().find_first_of("123456789") == std::string::npos;
}

Result<LoadOnly> load_only(const Json& body, ModelHost& models) {
  if (!asks_to_unload(body)) {
    QUERN_TRY(const std::shared_ptr<ServedModel> model, ollama_model(body, models));
    return LoadOnly{model->name(), "load"};
  }
  const std::vector<ModelCard> cards = models.models();
  const Json* name = field(body, "model");
  const ModelCard* card = find_card(cards, name ? std::string_view(name->string()) : std::string_view());
  if (!card && (cards.size() == 1 || !name)) card = &cards[0];  // any name is its name, none that of the first
  if (card) return LoadOnly{card->name, "unload"};
  return make_error(ErrorCode::not_found, "model: expected one of /api/tags, found {}", found_text(*name));
}

Result<std::shared_ptr<ServedModel>> ollama_model(const Json& body, ModelHost& models) {
  const Json* name = field(body, "model");
  return models.model(name ? std::string_view(name->string()) : std::string_view());
}

const ModelCard* find_card(const std::vector<ModelCard>& cards, std::string_view name) {
  name = without_latest(name);
  const auto found = std::find_if(cards.begin(), cards.end(), [&](const ModelCard& card) {
    return without_latest(card.name) == name ||
           std::any_of(card.aliases.begin(), card.aliases.end(),
                       [&](const std::string& alias) { return without_latest(alias) == name; });
  });
  return found == cards.end() ? nullptr : &*found;
}

}  // namespace quern
