// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_host.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

#include "quern/engine/memory.h"
#include "quern/server/metrics.h"

namespace quern {

namespace fs = std::filesystem;

/// A loaded model with its engine.
class EngineHost::Hosted : public ServedModel {
 public:
  Hosted(std::string name, std::unique_ptr<Engine> engine) : name_(std::move(name)), engine_(std::move(engine)) {}

  const std::string& name() const override { return name_; }
  const Tokenizer& tokenizer() const override { return model().tokenizer(); }
  Result<const ChatTemplate*> chat_template() const override { return model().chat_template(); }
  const std::string& bos_text() const override { return model().bos_text(); }
  const std::string& eos_text() const override { return model().eos_text(); }
  const GenerationDefaults& defaults() const override { return model().defaults(); }
  const ModelInfo& info() const override { return model().model().info(); }
  int64_t context_tokens() const override { return model().context().tokens; }
  uint64_t submit(Request request, std::shared_ptr<RequestListener> listener) override {
    return engine_->submit(std::move(request), listener);
  }
  bool full() const override { return engine_->full(); }
  void cancel(uint64_t id) override { engine_->cancel(id); }

  Engine& engine() { return *engine_; }
  const LoadedModel& model() const { return engine_->model(); }
  int64_t bytes() const { return info().weight_bytes + model().context().state_bytes; }

 private:
  const std::string name_;
  std::unique_ptr<Engine> engine_;
};

namespace {

/// When a file came to be, in seconds since 1970; 0 where that cannot be told.
int64_t file_time(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0;
  const auto system = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration_cast<std::chrono::seconds>(system.time_since_epoch()).count();
}

int64_t bytes_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    const auto size = fs::file_size(path, error);
    return error ? 0 : static_cast<int64_t>(size);
  }
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path, error))
    if (entry.path().extension() == ".safetensors") bytes += bytes_of(entry.path());
  return bytes;
}

void add_counters(EngineFacts& sum, const EngineFacts& more) {
  for (auto member : {&EngineFacts::requests, &EngineFacts::prompt_tokens, &EngineFacts::cached_tokens,
                      &EngineFacts::generated_tokens, &EngineFacts::preemptions, &EngineFacts::steps,
                      &EngineFacts::drafted_tokens, &EngineFacts::accepted_tokens})
    sum.*member += more.*member;
}

}  // namespace

EngineHost::EngineHost(std::vector<ModelEntry> entries, HostOptions options, Loader loader)
    : options_(std::move(options)), loader_(std::move(loader)) {
  QUERN_CHECK(!entries.empty(), "a server without models");
  for (ModelEntry& entry : entries) slots_.push_back({.entry = std::move(entry)});
}

EngineHost::~EngineHost() {
  // Requests hold their model, and an engine its requests: whoever lets go last must not be the engine's own thread.
  for (Slot& slot : slots_)
    if (slot.loaded) slot.loaded->engine().close();
}

EngineHost::Slot* EngineHost::find(std::string_view name) {
  for (Slot& slot : slots_)
    if (slot.entry.name == name || std::ranges::find(slot.entry.aliases, name) != slot.entry.aliases.end())
      return &slot;
  return slots_.size() == 1 ? slots_.data() : nullptr;  // agents ask for names of their own
}

std::vector<ModelCard> EngineHost::models() {
  const std::scoped_lock lock(mutex_);
  std::vector<ModelCard> cards;
  for (const Slot& slot : slots_) {
    ModelCard card;
    card.name = slot.entry.name;
    card.aliases = slot.entry.aliases;
    card.created = file_time(slot.entry.path);
    card.file_bytes = bytes_of(slot.entry.path);
    card.loaded = slot.loaded;
    if (slot.loaded) {
      card.architecture = slot.loaded->info().architecture;
      card.parameters = slot.loaded->info().parameters;
    }
    cards.push_back(std::move(card));
  }
  return cards;
}

int64_t EngineHost::bytes_in_use() const {
  int64_t bytes = 0;
  for (const Slot& slot : slots_)
    if (slot.loaded) bytes += slot.loaded->bytes();
  return bytes;
}

/// State that loaded models may still take: what nobody has written to yet looks free to the system.
int64_t EngineHost::promised_bytes() const {
  int64_t bytes = 0;
  for (const Slot& slot : slots_) {
    if (!slot.loaded) continue;
    const EngineFacts facts = slot.loaded->engine().facts();
    bytes += facts.state_limit_bytes - facts.state_bytes;
  }
  return bytes;
}

/// Unloads the model that was not used for longest; false: all are in use. Waits for its thread.
bool EngineHost::unload_one() {
  std::shared_ptr<Hosted> gone;
  {
    const std::scoped_lock lock(mutex_);
    Slot* oldest = nullptr;
    for (Slot& slot : slots_) {
      // Who works with it holds it too; what it still says is said by its engine.
      if (!slot.loaded || slot.loaded.use_count() > 1 || !slot.loaded->engine().idle()) continue;
      if (!oldest || slot.used < oldest->used) oldest = &slot;
    }
    if (!oldest) return false;
    gone = std::exchange(oldest->loaded, nullptr);
    add_counters(oldest->past, gone->engine().facts());
  }
  return true;
}

/// The same. An answer that has just ended still holds its model for a moment: not a reason to refuse the next one.
bool EngineHost::unload_one_soon() {
  constexpr std::chrono::milliseconds kMoment{1000}, kLook{5};
  const auto end = std::chrono::steady_clock::now() + kMoment;
  while (!unload_one()) {
    {
      const std::scoped_lock lock(mutex_);
      if (bytes_in_use() == 0 || stopped_) return false;
    }
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

Result<std::shared_ptr<EngineHost::Hosted>> EngineHost::load(Slot& slot) {
  while (true) {
    LoadOptions load = options_.load;
    load.whole_budget = slots_.size() == 1;
    if (options_.load.memory_budget > 0) {
      const std::scoped_lock lock(mutex_);
      load.memory_budget = std::max<int64_t>(1, options_.load.memory_budget - bytes_in_use());
    }
    if (load.memory_budget == 0 && slots_.size() > 1) {
      const std::scoped_lock lock(mutex_);
      load.memory_budget = std::max<int64_t>(1, memory_room(0) - promised_bytes());
    }
    auto model = loader_(slot.entry.path, load);
    if (!model) {
      if (model.error().code == ErrorCode::out_of_memory && unload_one_soon()) continue;
      return std::move(model).error();
    }
    EngineOptions engine = options_.engine;
    QUERN_TRY(auto started, Engine::start(*std::move(model), engine));
    return std::make_shared<Hosted>(slot.entry.name, std::move(started));
  }
}

/// The model of a slot, loaded if it is not; an error is the loader's.
Result<std::shared_ptr<ServedModel>> EngineHost::model_of(Slot& slot) {
  const auto loaded = [&]() -> std::shared_ptr<ServedModel> {
    const std::scoped_lock lock(mutex_);
    slot.used = ++clock_;
    return slot.loaded;
  };
  if (auto there = loaded()) return there;
  const std::scoped_lock one(loading_);
  if (auto there = loaded()) return there;  // somebody else has loaded it
  QUERN_TRY(auto hosted, load(slot));
  const std::scoped_lock lock(mutex_);
  if (stopped_) hosted->engine().stop(*stopped_);
  slot.loaded = hosted;
  slot.failure.reset();
  return std::shared_ptr<ServedModel>(std::move(hosted));
}

Status EngineHost::start() {
  if (auto first = model_of(slots_.front()); !first) return std::move(first).error();
  return {};
}

Result<std::shared_ptr<ServedModel>> EngineHost::model(std::string_view name) {
  Slot* slot = find(name);
  if (!slot && name.empty()) slot = slots_.data();
  if (!slot) {
    std::string names;
    for (const Slot& s : slots_) names += (names.empty() ? "" : ", ") + s.entry.name;
    return make_error(ErrorCode::not_found, "model: expected one of {}, found another name", names);
  }
  auto model = model_of(*slot);
  if (model) return model;
  const ErrorCode code = model.error().code;
  const std::string& shown = slot->entry.name;
  {
    const std::scoped_lock lock(mutex_);
    // Clients may ask as often as they like: the log has it once.
    if (!slot->failure || slot->failure->message != model.error().message) slot->failure_told = false;
    slot->failure = std::move(model).error();
  }
  if (code == ErrorCode::cancelled) return make_error(code, "the server is shutting down");
  if (code == ErrorCode::out_of_memory)
    return make_error(code, "model {}: there is no room for it beside those in use", shown);
  return make_error(ErrorCode::internal, "model {}: it cannot be loaded, the server's log says why", shown);
}

std::optional<Json> EngineHost::prefix_misses(std::string_view owner) {
  if (!options_.engine.report_misses) return std::nullopt;
  Json::Array out;
  const std::scoped_lock lock(mutex_);
  for (const Slot& slot : slots_) {
    if (!slot.loaded) continue;
    for (const PrefixMiss& miss : slot.loaded->engine().prefix_misses(owner))
      out.push_back(Json::Object{{"model", slot.entry.name},
                                 {"request", miss.request},
                                 {"prompt_tokens", miss.prompt_tokens},
                                 {"cached_tokens", miss.cached_tokens},
                                 {"position", miss.position},
                                 {"message", miss.message},
                                 {"known_id", miss.known_id},
                                 {"prompt_id", miss.prompt_id}});
  }
  return out;
}

std::string EngineHost::metrics() {
  std::vector<std::pair<std::string, EngineFacts>> facts;
  const std::scoped_lock lock(mutex_);
  for (const Slot& slot : slots_) {
    EngineFacts now = slot.loaded ? slot.loaded->engine().facts() : EngineFacts();
    add_counters(now, slot.past);
    facts.emplace_back(slot.entry.name, now);
  }
  return metrics_text(facts);
}

void EngineHost::end(const Error& reason) {
  stop(reason);
  std::vector<std::shared_ptr<Hosted>> loaded;
  {
    const std::scoped_lock lock(mutex_);
    for (const Slot& slot : slots_)
      if (slot.loaded) loaded.push_back(slot.loaded);
  }
  for (const auto& hosted : loaded) hosted->engine().close();
}

std::vector<Error> EngineHost::take_errors() {
  const std::scoped_lock lock(mutex_);
  std::vector<Error> out;
  for (Slot& slot : slots_) {
    if (slot.failure && !std::exchange(slot.failure_told, true)) out.push_back(*slot.failure);
    if (!slot.loaded) continue;
    if (auto error = slot.loaded->engine().cache_error()) out.push_back(*std::move(error));
  }
  return out;
}

void EngineHost::stop(const Error& reason) {
  const std::scoped_lock lock(mutex_);
  stopped_ = reason;
  for (Slot& slot : slots_)
    if (slot.loaded) slot.loaded->engine().stop(reason);
}

}  // namespace quern
