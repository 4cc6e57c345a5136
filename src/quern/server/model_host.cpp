// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_host.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "quern/engine/memory.h"
#include "quern/safetensors/folder.h"
#include "quern/server/metrics.h"

namespace quern {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> paths_of(const std::vector<FileState>& files) {
  std::vector<fs::path> out;
  out.reserve(files.size());
  for (const FileState& file : files) out.push_back(file.path);
  return out;
}

/// Whether the error is of that path, or of what lies in it: the longer name of another file is no name of this one.
bool names(const Error& error, const fs::path& path) {
  const std::string name = path.string();
  for (size_t at = 0; (at = error.message.find(name, at)) != std::string::npos; ++at) {
    const size_t end = at + name.size();
    if (end == error.message.size() || error.message[end] == ':' || error.message[end] == '/') return true;
  }
  return false;
}

/// The files of a model that an error names, and the folder.
std::vector<fs::path> named_files(const Error& error, const fs::path& path) {
  std::vector<fs::path> out = paths_of(model_file_states(path));
  if (auto folder = safetensors::folder_of(path)) out.push_back(*std::move(folder));
  std::erase_if(out, [&](const fs::path& file) { return !names(error, file); });
  return out;
}

/// Whether two tries failed for the same reason. How much room there is differs each time: told anew each time it would
/// fill the log.
bool is_same_failure(const Error& a, const Error& b) {
  const bool lack_room = a.code == ErrorCode::out_of_memory && b.code == ErrorCode::out_of_memory;
  return lack_room || a.message == b.message;
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

/// An error of a model's files: names the path, once, and says so where the sandbox is what stands in the way.
Error EngineHost::explained(const fs::path& path, Error error) const {
  if (error.code == ErrorCode::out_of_memory || error.code == ErrorCode::cancelled) return error;
  if (error.code == ErrorCode::invalid_argument)  // as system_error has what is there and does not open
    for (const fs::path& file : named_files(error, path))
      if (options_.is_shut(file))
        return make_error(error.code,
                          "{}: replaced or added since the server's start, and the sandbox keeps it shut: restart the "
                          "server ({})",
                          file.string(), error.message);
  return names(error, path) ? error : std::move(error).in(path.string());
}

EngineHost::Slot* EngineHost::find(std::string_view name) {
  const auto plain = [](std::string_view text) {  // Ollama's clients may add it or leave it out
    constexpr std::string_view kLatest = ":latest";
    return text.ends_with(kLatest) ? text.substr(0, text.size() - kLatest.size()) : text;
  };
  for (Slot& slot : slots_)
    if (plain(slot.entry.name) == plain(name) ||
        std::ranges::find(slot.entry.aliases, plain(name), plain) != slot.entry.aliases.end())
      return &slot;
  // Agents ask for names of their own.
  return slots_.size() == 1 || name.empty() ? slots_.data() : nullptr;
}

std::vector<ModelCard> EngineHost::models() {
  std::vector<ModelCard> cards;
  const std::scoped_lock lock(mutex_);
  for (const Slot& slot : slots_)
    cards.push_back({.name = slot.entry.name, .aliases = slot.entry.aliases, .loaded = slot.loaded != nullptr});
  return cards;
}

std::shared_ptr<ServedModel> EngineHost::loaded_model() {
  const std::scoped_lock lock(mutex_);
  const auto first = std::ranges::find_if(slots_, [](const Slot& slot) { return slot.loaded != nullptr; });
  return first == slots_.end() ? nullptr : first->loaded;
}

ModelDetails EngineHost::details(const ModelCard& card) {
  const auto slot = std::ranges::find_if(slots_, [&](const Slot& s) { return s.entry.name == card.name; });
  QUERN_CHECK(slot != slots_.end(), "a card of another host");
  const fs::path& path = slot->entry.path;
  ModelDetails out;
  out.facts = facts(*slot);
  out.created = out.facts->written.seconds;
  out.file_bytes = out.facts->file_bytes;
  out.format = safetensors::folder_of(path) ? "safetensors" : "gguf";
  out.context_tokens = context(*slot, out.facts);
  return out;
}

/// Read where they are not known. Not under the lock: a disk may take its time.
EngineHost::FactsPointer EngineHost::facts(Slot& slot) {
  if (auto known = known_facts(slot)) return known;
  const std::scoped_lock one(reading_);
  if (auto known = known_facts(slot)) return known;  // somebody else has read them
  const fs::path& path = slot.entry.path;
  auto files = model_file_states(path);  // before: what changes is read again
  auto read = options_.read_facts(path, options_.load.isa.value_or(best_isa()), files);
  std::optional<Error> unread;
  if (!read) unread = explained(path, read.error());
  auto facts = std::make_shared<const ModelFacts>(unread ? unread_facts(std::move(files)) : *std::move(read));
  const std::scoped_lock lock(mutex_);
  if (slot.loaded || slot.lost) return slot.facts;
  slot.facts = facts;
  slot.facts_read = Clock::now();
  slot.context.reset();
  if (unread)
    fail(slot, slot.reading, *std::move(unread));
  else
    slot.reading.last.reset();
  return facts;
}

/// Of what is in memory, and of files that are as they were; null: they are to be read. What failed is tried again
/// soon: not all that it failed for shows in the files.
EngineHost::FactsPointer EngineHost::known_facts(Slot& slot) {
  FactsPointer facts;
  {
    const std::scoped_lock lock(mutex_);
    facts = slot.facts;
    if (slot.loaded || slot.lost || !facts) return facts;
    if (slot.reading.last && Clock::now() - slot.facts_read >= options_.facts_rest) return nullptr;
  }
  return still_hold(*facts, slot.entry.path) ? facts : nullptr;
}

/// That of a loaded model, or what another would have were it alone in memory. Planned anew after every change of what
/// is there; while a model is being loaded, which takes memory by and by, for this one question.
int64_t EngineHost::context(Slot& slot, const FactsPointer& facts) {
  const LoadOptions& load = options_.load;
  uint64_t changes = 0;
  int64_t others = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (slot.loaded) return slot.loaded->context_tokens();
    if (slot.lost) return 0;
    if (slot.context && slot.context->changes == changes_ && slot.facts == facts) return slot.context->tokens;
    changes = changes_;
    // What is free lacks what the others have taken, which is not all that they may take; a budget lacks nothing.
    if (load.memory_budget <= 0) others = bytes_in_use() - promised_bytes() + scratch_bytes();
  }
  const int64_t tokens = possible_context(*facts, load, options_.memory_room(load.memory_budget) + others);
  const std::scoped_lock lock(mutex_);
  if (!load_under_way_ && changes == changes_ && slot.facts == facts) slot.context = {tokens, changes};
  return tokens;
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

/// Beside weights and state: what their steps have taken, which stays.
int64_t EngineHost::scratch_bytes() const {
  int64_t bytes = 0;
  for (const Slot& slot : slots_)
    if (slot.loaded) bytes += slot.loaded->engine().facts().scratch_bytes;
  return bytes;
}

/// Unloads the model that was not used for longest; false: all are in use. Waits for its thread.
bool EngineHost::unload_one() {
  std::shared_ptr<HostedModel> gone;
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
  gone.reset();
  const std::scoped_lock lock(mutex_);
  ++changes_;
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

Result<std::shared_ptr<HostedModel>> EngineHost::load(Slot& slot, std::optional<FileWatch>& files) {
  while (true) {
    LoadOptions load = options_.load;
    load.whole_budget = slots_.size() == 1;
    if (options_.load.memory_budget > 0) {
      const std::scoped_lock lock(mutex_);
      load.memory_budget = std::max<int64_t>(1, options_.load.memory_budget - bytes_in_use());
    }
    if (load.memory_budget == 0 && slots_.size() > 1) {
      const std::scoped_lock lock(mutex_);
      load.memory_budget = std::max<int64_t>(1, options_.memory_room(0) - promised_bytes());
    }
    files.emplace(paths_of(model_file_states(slot.entry.path)));
    auto model = loader_(slot.entry.path, load);
    if (!model) {
      if (model.error().code == ErrorCode::out_of_memory && unload_one_soon()) continue;
      return explained(slot.entry.path, std::move(model).error());
    }
    files->narrow_to((*model)->files());
    EngineOptions engine = options_.engine;
    QUERN_TRY(auto started, Engine::start(*std::move(model), engine));
    return std::make_shared<HostedModel>(slot.entry.name, std::move(started));
  }
}

/// As long as it lives memory is being taken; from its end on it is clear how much.
class EngineHost::LoadUnderWay {
 public:
  explicit LoadUnderWay(EngineHost& host) : host_(host) {
    const std::scoped_lock lock(host_.mutex_);
    host_.load_under_way_ = true;
  }
  ~LoadUnderWay() {
    const std::scoped_lock lock(host_.mutex_);
    host_.load_under_way_ = false;
    ++host_.changes_;
  }
  LoadUnderWay(const LoadUnderWay&) = delete;
  LoadUnderWay& operator=(const LoadUnderWay&) = delete;

 private:
  EngineHost& host_;
};

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
  const LoadUnderWay under_way(*this);
  std::optional<FileWatch> files;
  auto states = model_file_states(slot.entry.path);  // before: what changes is read again
  QUERN_TRY(auto hosted, load(slot, files));
  auto facts = std::make_shared<const ModelFacts>(facts_of(hosted->model(), std::move(states)));
  const std::scoped_lock lock(mutex_);
  if (stopped_) hosted->engine().stop(*stopped_);
  slot.loaded = hosted;
  slot.files = std::move(files);
  slot.facts = std::move(facts);
  slot.context.reset();
  slot.watchdog = {};
  slot.loading.last.reset();
  slot.reading.last.reset();
  return std::shared_ptr<ServedModel>(std::move(hosted));
}

Status EngineHost::start() {
  if (auto first = model_of(slots_.front()); !first) return std::move(first).error();
  return {};
}

Result<std::shared_ptr<ServedModel>> EngineHost::model(std::string_view name) {
  Slot* slot = find(name);
  if (!slot) {
    std::string names;
    for (const Slot& s : slots_) names += (names.empty() ? "" : ", ") + s.entry.name;
    return make_error(ErrorCode::not_found, "model: expected one of {}, found another name", names);
  }
  if (auto refused = refusal(*slot)) return *std::move(refused);
  auto model = model_of(*slot);
  if (model) return model;
  const ErrorCode code = model.error().code;
  const std::string& shown = slot->entry.name;
  {
    const std::scoped_lock lock(mutex_);
    fail(*slot, slot->loading, std::move(model).error());
  }
  if (code == ErrorCode::cancelled) return make_error(code, "the server is shutting down");
  if (code == ErrorCode::out_of_memory)
    return make_error(code, "model {}: there is no room for it beside those in use", shown);
  return make_error(ErrorCode::internal, "model {}: it cannot be loaded, the server's log says why", shown);
}

bool EngineHost::load_later(std::string_view name, Loaded then) {
  Slot* slot = find(name);
  if (!slot) return false;
  const std::scoped_lock lock(mutex_);
  if (slot->loaded || slot->lost || stopped_) return false;
  slot->waiting.push_back(std::move(then));
  if (slot->waiting.size() > 1) return true;
  try {
    loads_.post([this, slot] { load_for_those_who_wait(*slot); });
  } catch (...) {
    slot->waiting.clear();
    throw;
  }
  return true;
}

void EngineHost::load_for_those_who_wait(Slot& slot) {
  Result<std::shared_ptr<ServedModel>> model = nullptr;
  try {
    model = this->model(slot.entry.name);
  } catch (const std::bad_alloc&) {
    model = Error{ErrorCode::out_of_memory, "out of memory"};
  } catch (const std::exception& e) {  // no thread, no folder, a file that asks for the impossible
    model = make_error(ErrorCode::internal, "model {}: it cannot be loaded: {}", slot.entry.name, e.what());
  }
  std::vector<Loaded> waiting;
  {
    const std::scoped_lock lock(mutex_);
    waiting.swap(slot.waiting);
  }
  for (Loaded& then : waiting) {
    try {
      then(model);
    } catch (...) {
      then = nullptr;  // that one gets no answer; the others do
    }
    then = nullptr;
  }
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

std::optional<Error> EngineHost::refusal(const Slot& slot) {
  const std::scoped_lock lock(mutex_);
  // Cancelled: by the server, not by what was asked (503).
  if (slot.lost)
    return make_error(ErrorCode::cancelled, "model {}: its file has changed, it is not served any more",
                      slot.entry.name);
  if (slot.silent) return make_error(ErrorCode::cancelled, "model {}: its engine does not get on now", slot.entry.name);
  return std::nullopt;
}

bool EngineHost::healthy() {
  const std::scoped_lock lock(mutex_);
  return !failed_ && std::ranges::none_of(slots_, &Slot::silent);
}

std::optional<Error> EngineHost::failure() {
  const std::scoped_lock lock(mutex_);
  return failed_;
}

void EngineHost::watch() {
  const auto now = Watchdog::Clock::now();
  {
    const std::scoped_lock lock(mutex_);
    for (Slot& slot : slots_) look_after(slot, now);
    if (now < next_look_ || looking_) return;
    looking_ = true;
  }
  next_look_ = now + options_.file_look;
  const auto looked = [this] {
    const std::scoped_lock lock(mutex_);
    looking_ = false;
  };
  try {
    files_.post([this, looked] {
      try {
        look_at_files();
      } catch (const std::exception&) {
        return looked();  // the next look
      }
      looked();
    });
  } catch (...) {
    looked();
    throw;
  }
}

/// Under the lock.
void EngineHost::look_after(Slot& slot, Watchdog::Clock::time_point now) {
  if (!slot.loaded) {
    slot.silent = false;
    return;
  }
  Engine& engine = slot.loaded->engine();
  const Engine::Pulse pulse = engine.pulse();
  const auto silence = slot.watchdog.look(pulse.beats, pulse.works, now);
  const bool was_silent = std::exchange(slot.silent, silence >= options_.silence);
  const double seconds = std::chrono::duration<double>(options_.silence).count();
  if (slot.silent && !was_silent)
    untold_.push_back(make_error(ErrorCode::internal, "model {}: its engine has not got on for {:.0f} seconds",
                                 slot.entry.name, seconds));
  if (failed_) return;
  if (auto failure = engine.failure())
    failed_ = std::move(*failure).in("model " + slot.entry.name);
  else if (silence >= 2 * options_.silence)
    failed_ =
        make_error(ErrorCode::internal, "model {}: expected its engine to get on, found it stuck for {:.0f} seconds",
                   slot.entry.name, 2 * seconds);
}

/// On a thread of its own.
void EngineHost::look_at_files() {
  for (Slot& slot : slots_) {
    std::optional<FileWatch> files;
    std::shared_ptr<HostedModel> watched;
    {
      const std::scoped_lock lock(mutex_);
      if (slot.lost || !slot.loaded) continue;
      files = slot.files;
      watched = slot.loaded;
    }
    auto change = files->change();
    const std::scoped_lock lock(mutex_);
    if (slot.loaded != watched) continue;
    slot.files = std::move(files);
    if (change) lose(slot, *std::move(change));
  }
  unload_lost();
}

/// Under the lock. Clients may ask as often as they like: the log has it once.
void EngineHost::fail(Slot& slot, Trouble& trouble, Error error) {
  const auto is_known = [&](const Trouble& t) { return t.last && is_same_failure(*t.last, error); };
  if (!is_known(slot.loading) && !is_known(slot.reading)) trouble.untold = error;
  trouble.last = std::move(error);
}

/// Under the lock.
void EngineHost::lose(Slot& slot, Error change) {
  slot.lost = true;
  slot.loaded->engine().stop(
      make_error(ErrorCode::cancelled, "model {}: its file has changed while it was served", slot.entry.name));
  if (std::ranges::all_of(slots_, &Slot::lost))
    failed_ = std::move(change);
  else
    untold_.push_back(std::move(change));
}

void EngineHost::unload_lost() {
  std::vector<std::shared_ptr<HostedModel>> gone;  // their threads are waited for outside the lock
  {
    const std::scoped_lock lock(mutex_);
    for (Slot& slot : slots_)
      if (slot.lost && slot.loaded && slot.loaded.use_count() == 1 && slot.loaded->engine().idle()) {
        add_counters(slot.past, slot.loaded->engine().facts());
        gone.push_back(std::exchange(slot.loaded, nullptr));
      }
  }
  if (std::exchange(gone, {}).empty()) return;
  const std::scoped_lock lock(mutex_);
  ++changes_;
}

std::vector<std::shared_ptr<HostedModel>> EngineHost::loaded() {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<HostedModel>> out;
  for (const Slot& slot : slots_)
    if (slot.loaded) out.push_back(slot.loaded);
  return out;
}

void EngineHost::abandon(const Error& reason) {
  stop(reason);
  for (const auto& hosted : loaded()) hosted->abandon(reason);
}

bool EngineHost::end(const Error& reason, std::chrono::steady_clock::time_point deadline) {
  stop(reason);
  const bool files_rest = files_.end_by(deadline), loads_rest = loads_.end_by(deadline);
  bool good = files_rest && loads_rest;
  const auto hosted = loaded();
  for (const auto& h : hosted) h->engine().ask_to_end();  // all at once: they share the time
  for (const auto& h : hosted) {
    if (h->engine().close_by(deadline)) continue;
    good = false;
    const int64_t bytes = h->engine().unwritten_bytes();
    const std::scoped_lock lock(mutex_);
    untold_.push_back(bytes > 0
                          ? make_error(ErrorCode::internal,
                                       "model {}: cache: {} bytes are left unwritten at the end, the disk is too slow",
                                       h->name(), bytes)
                          : make_error(ErrorCode::internal, "model {}: its engine has not come to its end", h->name()));
  }
  return good;
}

std::vector<Error> EngineHost::take_errors() {
  const std::scoped_lock lock(mutex_);
  std::vector<Error> out = std::exchange(untold_, {});
  for (Slot& slot : slots_) {
    for (Trouble* trouble : {&slot.loading, &slot.reading})
      if (auto error = std::exchange(trouble->untold, std::nullopt)) out.push_back(*std::move(error));
    if (!slot.loaded) continue;
    if (auto error = slot.loaded->engine().cache_error()) out.push_back(*std::move(error));
  }
  return out;
}

void EngineHost::stop(const Error& reason) {
  {
    const std::scoped_lock lock(mutex_);
    stopped_ = reason;
    for (Slot& slot : slots_)
      if (slot.loaded) slot.loaded->engine().stop(reason);
  }
  // One after the other: where memory is short and this throws, the next try finds those who have not been told.
  while (const Loaded then = take_waiting()) then(reason);
}

EngineHost::Loaded EngineHost::take_waiting() {
  const std::scoped_lock lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.waiting.empty()) continue;
    Loaded then = std::move(slot.waiting.back());
    slot.waiting.pop_back();
    return then;
  }
  return {};
}

}  // namespace quern
