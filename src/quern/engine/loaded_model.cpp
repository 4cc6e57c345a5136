// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/loaded_model.h"

#include <sys/stat.h>

#include <algorithm>

#include "quern/chat/messages.h"
#include "quern/engine/checkpoint_file.h"
#include "quern/io/mapped_file.h"
#include "quern/model/architecture.h"
#include "quern/ops/attention.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

/// A number of generation_config.json, where it is one and makes sense.
template <typename T>
std::optional<T> setting(const Json& config, std::string_view key, double min, double max) {
  const Json* value = config.find(key);
  if (!value || !value->is_number() || value->number() < min || value->number() > max) return std::nullopt;
  return static_cast<T>(value->number());
}

GenerationDefaults read_defaults(const Json& config) {
  GenerationDefaults out;
  const Json* sample = config.find("do_sample");
  if (!sample || *sample != Json(false)) {  // without do_sample the other numbers are transformers' own, not advice
    out.temperature = setting<float>(config, "temperature", 0, 10);
    out.top_p = setting<float>(config, "top_p", 0, 1);
    out.min_p = setting<float>(config, "min_p", 0, 1);
    out.top_k = setting<int>(config, "top_k", 0, 1e6);
    out.repeat_penalty = setting<float>(config, "repetition_penalty", 0.01, 10);
  }
  const Json* end = config.find("eos_token_id");
  const auto add = [&](const Json& id) {
    if (id.is_integer() && id.integer() >= 0 && id.integer() <= INT32_MAX)
      out.end_ids.push_back(static_cast<TokenId>(id.integer()));
  };
  if (end && end->is_array())
    std::for_each(end->array().begin(), end->array().end(), add);
  else if (end)
    add(*end);
  return out;
}

/// A special token of tokenizer_config.json: its text, or an object with `content`.
std::string token_text(const Json& config, std::string_view key) {
  const Json* token = config.find(key);
  if (token && token->is_object()) token = token->find("content");
  return token && token->is_string() ? token->string() : std::string();
}

std::string gguf_token_text(const gguf::File& file, std::string_view key) {
  const gguf::Value* id = file.find(key);
  const gguf::Value* tokens = file.find("tokenizer.ggml.tokens");
  if (!id || !tokens || !id->integer()) return {};
  const int64_t index = *id->integer();
  if (index < 0 || index >= tokens->size()) return {};
  return std::string(tokens->string(index).value_or(""));
}

std::optional<TemplateSource> gguf_template(const gguf::File& file) {
  const gguf::Value* text = file.find("tokenizer.chat_template");
  if (!text || !text->string()) return std::nullopt;
  return TemplateSource{std::string(*text->string()), gguf_token_text(file, "tokenizer.ggml.bos_token_id"),
                        gguf_token_text(file, "tokenizer.ggml.eos_token_id")};
}

Result<Json> read_json(const fs::path& path) {
  QUERN_TRY(std::string text, read_text_file(path));
  auto json = Json::parse(text);
  if (!json) return std::move(json).error().in(path.string());
  return json;
}

Result<std::optional<TemplateSource>> folder_template(const safetensors::Folder& folder) {
  QUERN_TRY(std::optional<std::string> text, folder.chat_template());
  if (!text) return std::optional<TemplateSource>();
  TemplateSource out{std::move(*text), {}, {}};
  if (auto path = folder.tokenizer_config()) {
    QUERN_TRY(Json config, read_json(*path));
    out.bos_token = token_text(config, "bos_token");
    out.eos_token = token_text(config, "eos_token");
  }
  return std::optional(std::move(out));
}

/// The template of a tokenizer_config.json on its own.
Result<std::optional<TemplateSource>> config_template(const fs::path& path) {
  QUERN_TRY(const Json config, read_json(path));
  auto text = safetensors::template_in(config);
  if (!text) return std::move(text).error().in(path.string());
  if (!*text) return std::optional<TemplateSource>();
  return std::optional(
      TemplateSource{(*text)->string(), token_text(config, "bos_token"), token_text(config, "eos_token")});
}

/// Weights and the shortest useful context must fit, judged before anything is packed: a model that is too large should
/// not meet the system's out-of-memory killer half way.
Status expect_room(const ModelSource& source, Isa isa, const LoadOptions& options) {
  QUERN_TRY(const auto model, load_outline(source, isa));
  const int64_t least =
      model->info().weight_bytes + memory_needed(*model, options.kv, kKvPageTokens, options.sequences);
  const int64_t room = memory_room(options.memory_budget);
  if (least > room)
    return make_error(ErrorCode::out_of_memory,
                      "memory: the model and the shortest context need {} MiB, {} MiB are there", least >> 20,
                      std::max<int64_t>(room, 0) >> 20);
  return {};
}

/// Changes with every change of what the same weights and tokens come to: saved state of others is of no use then.
constexpr int64_t kNumbersVersion = 3;

/// A key and its value, of a list of texts the first: hyper-parameters tell models apart that have the same weights.
uint64_t entry_hash(std::string_view key, const gguf::Value& value, uint64_t seed) {
  uint64_t hash = checksum64(value.raw(), checksum64(std::as_bytes(std::span(key)), seed));
  if (const auto text = value.string()) hash = checksum64(std::as_bytes(std::span(*text)), hash);
  return hash;
}

uint64_t tensor_hash(std::string_view name, const TensorView& view, uint64_t seed) {
  uint64_t hash = checksum64(std::as_bytes(std::span(name)), seed);
  if (!view.type) return hash;
  hash = checksum64(std::as_bytes(std::span(std::string_view(view.type->name))), hash);
  hash = checksum64(std::as_bytes(std::span(view.shape.ne)), hash);
  constexpr size_t kPiece = 4096;
  const std::span<const std::byte> data = view.data;
  const size_t size = std::min(kPiece, data.size());
  return checksum64(data.subspan((data.size() - size) / 2, size), hash);
}

/// What is hashed of a tensor is a piece: that others were changed in place shows by the time.
uint64_t time_hash(const fs::path& path, uint64_t seed) {
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0) return seed;
  const int64_t time[] = {facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec};
  return checksum64(std::as_bytes(std::span(time)), seed);
}

}  // namespace

uint64_t LoadedModel::fingerprint() const {
  // Of the CPUs of one level some attend in another form.
  const int64_t computed_by[] = {kNumbersVersion, static_cast<int64_t>(isa_),
                                 static_cast<int64_t>(attention_form(kernel_table(isa_), kv_))};
  uint64_t hash = checksum64(std::as_bytes(std::span(computed_by)));
  if (const gguf::File* file = source_->gguf()) {
    for (const auto& entry : file->metadata()) hash = entry_hash(entry.key, entry.value, hash);
    for (const auto& tensor : file->tensors()) hash = tensor_hash(tensor.name, tensor.view, hash);
  } else {
    const std::string config = source_->folder()->config().dump();
    hash = checksum64(std::as_bytes(std::span(config)), hash);
    for (const auto& tensor : source_->folder()->tensors()) hash = tensor_hash(tensor.name, tensor.view, hash);
  }
  for (const fs::path& path : files()) hash = time_hash(path, hash);
  return hash;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const ModelSource& source) {
  if (source.gguf()) return Tokenizer::from_gguf(*source.gguf());
  const auto json = source.folder()->tokenizer_json();
  if (!json)
    return make_error(ErrorCode::not_found, "{}: expected a tokenizer.json, found none",
                      source.folder()->path().string());
  return Tokenizer::from_json(*json, source.folder()->tokenizer_config());
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const fs::path& path, std::string_view pre) {
  const std::string extension = path.extension().string();
  if (extension == ".tiktoken") return Tokenizer::from_tiktoken(path, pre);
  if (!pre.empty())
    return make_error(ErrorCode::invalid_argument, "{}: a split rule goes with a .tiktoken file, found '{}'",
                      path.string(), extension);
  std::error_code ignored;
  const bool is_json_file = extension == ".json" && !safetensors::folder_of(path);
  if (is_json_file || (fs::is_directory(path, ignored) && !fs::exists(path / "config.json", ignored))) {
    const fs::path file = is_json_file ? path : path / "tokenizer.json";
    const fs::path config = file.parent_path() / "tokenizer_config.json";
    return Tokenizer::from_json(file, fs::exists(config, ignored) ? std::optional(config) : std::nullopt);
  }
  if (extension == ".gguf") {  // also files that hold nothing but a vocabulary
    QUERN_TRY(gguf::File file, gguf::File::open(path));
    return Tokenizer::from_gguf(file);
  }
  QUERN_TRY(auto source, ModelSource::open(path));
  return load_tokenizer(*source);
}

Result<std::optional<TemplateSource>> load_template_source(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".jinja") {
    QUERN_TRY(std::string text, read_text_file(path, 16 << 20));
    return std::optional(TemplateSource{std::move(text), {}, {}});
  }
  if (extension == ".json" && !safetensors::folder_of(path)) return config_template(path);
  if (extension == ".gguf") {
    QUERN_TRY(gguf::File file, gguf::File::open(path));
    return gguf_template(file);
  }
  QUERN_TRY(auto source, ModelSource::open(path));
  return load_template_source(*source);
}

Result<std::optional<TemplateSource>> load_template_source(const ModelSource& source) {
  if (source.gguf()) return gguf_template(*source.gguf());
  return folder_template(*source.folder());
}

Result<std::optional<ChatTemplate>> compile_template(const std::optional<TemplateSource>& source,
                                                     FunctionRef<bool(std::string_view)> has_token) {
  std::optional<std::string_view> text;
  if (source)
    text = source->text;
  else
    text = fallback_chat_template(has_token);
  if (!text) return std::optional<ChatTemplate>();
  QUERN_TRY(ChatTemplate compiled, ChatTemplate::compile(*text));
  return std::optional(std::move(compiled));
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const fs::path& path, const LoadOptions& options,
                                                       FunctionRef<bool(int64_t, int64_t)> progress) {
  std::unique_ptr<LoadedModel> out(new LoadedModel());
  out->isa_ = options.isa.value_or(best_isa());
  out->kv_ = options.kv;
  QUERN_TRY(out->source_, ModelSource::open(path));
  // What is cheap to refuse comes first: a broken vocabulary should not cost the time of loading weights.
  QUERN_TRY(out->tokenizer_, load_tokenizer(*out->source_));
  QUERN_TRY(auto text, load_template_source(*out->source_));
  // One that does not compile is an error only for who needs it: scores and raw continuations do not.
  out->template_ =
      compile_template(text, [&](std::string_view token) { return out->tokenizer_->find(token).has_value(); });
  if (text) {
    out->bos_text_ = text->bos_token;
    out->eos_text_ = text->eos_token;
  } else {
    const Tokenizer& tokenizer = *out->tokenizer_;
    if (tokenizer.bos()) out->bos_text_ = tokenizer.piece(*tokenizer.bos(), /*show_special=*/true);
    if (tokenizer.eos()) out->eos_text_ = tokenizer.piece(*tokenizer.eos(), /*show_special=*/true);
  }
  if (out->source_->folder()) out->defaults_ = read_defaults(out->source_->folder()->generation_config());

  QUERN_TRY(out->pool_, Pool::make(options.threads > 0 ? options.threads : Pool::default_threads()));
  const LoadContext context{kernel_table(out->isa_), *out->pool_, progress};
  QUERN_TRY_STATUS(expect_room(*out->source_, out->isa_, options));
  QUERN_TRY(out->model_, load_model(*out->source_, context));
  // A budget counts the weights too; what is available does not hold them any more.
  const int64_t loaded = options.memory_budget > 0 ? out->model_->info().weight_bytes : 0;
  QUERN_TRY(out->plan_, plan_context(*out->model_, options.kv, options.context,
                                     memory_room(options.memory_budget) - loaded, options.sequences));
  if (options.shared_by > 0) {
    const int64_t room = memory_room(options.memory_budget) - loaded;
    out->plan_.state_bytes = shared_state_bytes(*out->model_, options.kv, out->plan_, room, options.shared_by,
                                                options.memory_budget > 0 && options.whole_budget);
  }
  out->store_ = std::make_unique<StateStore>(out->model_->state(), options.kv, out->plan_.state_bytes);
  out->runner_ = std::make_unique<Runner>(*out->model_, *out->pool_);
  return out;
}

}  // namespace quern
