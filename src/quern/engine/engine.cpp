// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/engine.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "quern/engine/checkpoint_file.h"
#include "quern/tensor/huge_pages.h"

namespace quern {
namespace {

/// Reports of misses that are kept.
constexpr size_t kMisses = 256;

/// Of state for tokens yet to come, touched while nothing else is to do. The first touch takes the kernel's time, and
/// on a virtual machine the host's, up to some milliseconds for each huge page.
constexpr int64_t kReadyBytes = 32 << 20;
constexpr size_t kSystemPage = 4096;  // or larger

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Short enough to need no memory itself.
Error no_memory() { return {ErrorCode::out_of_memory, "out of memory"}; }

Error unloaded() { return {ErrorCode::cancelled, "the model is being unloaded"}; }

/// Where there is no memory for the reason, it is that.
RequestEnd end_of(const Error& error) {
  RequestEnd end;
  try {
    end.error = error;
  } catch (const std::bad_alloc&) {
    end.error = no_memory();
  }
  return end;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::start(std::unique_ptr<LoadedModel> model, const EngineOptions& options) {
  std::unique_ptr<PrefixStore> store;
  if (!options.cache_dir.empty()) {
    const uint64_t fingerprint = state_fingerprint(model->store(), model->fingerprint());
    QUERN_TRY(store, PrefixStore::open(options.cache_dir, fingerprint, options.cache_dir_bytes));
  }
  return std::unique_ptr<Engine>(new Engine(std::move(model), std::move(store), options));
}

Engine::Engine(std::unique_ptr<LoadedModel> model, std::unique_ptr<PrefixStore> store, const EngineOptions& options)
    : options_(options), model_(std::move(model)), store_(std::move(store)) {
  CoreOptions core;
  core.parallel = options.parallel;
  core.context = model_->context().tokens;
  core.report_misses = options.report_misses;
  core.speculate = options.speculate;
  core.store = store_.get();
  core.clock = seconds;
  core_ = std::make_unique<EngineCore>(model_->runner(), model_->store(), model_->tokenizer(), std::move(core));
  facts_ = core_->facts();
  thread_ = std::thread([this] { work(); });
}

Engine::~Engine() { close(); }

void Engine::close() {
  if (!thread_.joinable()) return;
  ask_to_end();
  thread_.join();
}

bool Engine::close_by(std::chrono::steady_clock::time_point deadline) {
  if (!thread_.joinable()) return true;
  ask_to_end();
  {
    std::unique_lock lock(mutex_);
    if (!gone_.wait_until(lock, deadline, [&] { return has_ended_; })) return false;
  }
  thread_.join();
  return true;
}

void Engine::ask_to_end() {
  stop(unloaded());
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wake_.notify_one();
}

uint64_t Engine::submit(Request request, const std::shared_ptr<RequestListener>& listener) {
  std::optional<Error> stopped;
  uint64_t id;
  {
    const std::scoped_lock lock(mutex_);
    id = ++last_id_;
    stopped = stopped_;
    if (!stopped && !request.admitted && waiting() >= options_.queue)
      stopped = make_error(ErrorCode::out_of_memory, "{} requests wait already: expected at most {}", waiting(),
                           options_.queue);
    if (!stopped) arrivals_.push_back({id, std::move(request), listener});
  }
  if (stopped)
    listener->on_end(end_of(*stopped), {});
  else
    wake_.notify_one();
  return id;
}

void Engine::cancel(uint64_t id) {
  {
    const std::scoped_lock lock(mutex_);
    cancelled_.push_back(id);
  }
  wake_.notify_one();
}

void Engine::stop(Error reason) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopped_) return;
    stopped_ = std::move(reason);
  }
  wake_.notify_one();
}

EngineFacts Engine::facts() const {
  const std::scoped_lock lock(mutex_);
  return facts_;
}

int64_t Engine::waiting() const { return facts_.waiting + std::ssize(arrivals_); }

bool Engine::full() const {
  const std::scoped_lock lock(mutex_);
  return waiting() >= options_.queue;
}

std::vector<PrefixMiss> Engine::prefix_misses(std::string_view owner) const {
  const std::scoped_lock lock(mutex_);
  std::vector<PrefixMiss> out;
  for (const PrefixMiss& miss : misses_)
    if (miss.owner == owner) out.push_back(miss);
  return out;
}

bool Engine::idle() const {
  const std::scoped_lock lock(mutex_);
  return arrivals_.empty() && facts_.running + facts_.waiting == 0;
}

std::optional<Error> Engine::cache_error() const { return store_ ? store_->last_error() : std::nullopt; }

Engine::Pulse Engine::pulse() const {
  // Where memory is short it waits for the disk to take what the cache holds: that is progress too.
  const uint64_t tried = store_ ? store_->tried() : 0;
  return {rounds_.load(std::memory_order_relaxed) + tried + model_->pool().pulse(),
          works_.load(std::memory_order_relaxed)};
}

std::optional<Error> Engine::failure() const {
  const std::scoped_lock lock(mutex_);
  return failure_;
}

bool Engine::take_in(bool busy) {
  std::vector<Arrival> arrivals;
  std::vector<uint64_t> cancelled;
  std::optional<Error> stopped;
  {
    std::unique_lock lock(mutex_);
    facts_ = core_->facts();
    for (PrefixMiss& miss : core_->take_misses()) misses_.push_back(std::move(miss));
    while (misses_.size() > kMisses) misses_.pop_front();
    const auto something = [&] {
      return ends_ || !arrivals_.empty() || !cancelled_.empty() || (stopped_ && facts_.running + facts_.waiting > 0);
    };
    rounds_.fetch_add(1, std::memory_order_relaxed);
    if (!busy) {
      works_.store(false, std::memory_order_relaxed);
      wake_.wait(lock, something);
      works_.store(true, std::memory_order_relaxed);
    }
    if (ends_) return false;
    arrivals.swap(arrivals_);
    cancelled.swap(cancelled_);
    stopped = stopped_;
    facts_.waiting += static_cast<int64_t>(arrivals.size());  // until the core counts them: never idle in between
  }
  for (Arrival& a : arrivals) {
    try {
      core_->add(a.id, std::move(a.request), a.listener);
    } catch (const std::bad_alloc&) {
      a.listener->on_end(end_of(no_memory()), {});
    }
  }
  for (const uint64_t id : cancelled) core_->cancel(id);
  if (stopped) core_->fail_all(*stopped);
  return true;
}

bool Engine::touch_memory() {
  Pool& pool = model_->pool();
  std::vector<PageRef> pages;
  try {
    pages = model_->store().to_be_touched(kReadyBytes, kHugePage * pool.size());
  } catch (const std::bad_alloc&) {
    return false;
  }
  if (pages.empty()) return false;
  // By the team, as the steps that fill them would.
  pool.run([&](const Worker& worker) {
    const auto [begin, end] = worker.share(std::ssize(pages));
    for (int64_t i = begin; i < end; ++i)
      for (size_t at = 0; at < pages[i].bytes().size(); at += kSystemPage) pages[i].bytes()[at] = std::byte{0};
  });
  return true;
}

void Engine::run_steps() {
  // Without requests: first tells what became of the last ones, then makes memory ready, then waits.
  enum class Idle { no, told, ready } idle = Idle::ready;
  while (true) {
    try {
      if (!take_in(idle != Idle::ready)) return;
      if (core_->step()) {
        idle = Idle::no;
      } else if (idle == Idle::told && touch_memory()) {
        continue;
      } else {
        idle = idle == Idle::no ? Idle::told : Idle::ready;
      }
    } catch (const std::bad_alloc&) {
      core_->fail_all(no_memory());
      idle = Idle::ready;
    }
  }
}

/// What was thrown has left nobody knows what half done: an engine that goes on might give answers that are wrong.
void Engine::fail(std::string_view what) noexcept {
  try {
    Error error = make_error(ErrorCode::internal, "the engine has failed: {}", what);
    const std::scoped_lock lock(mutex_);
    failure_ = error;
    if (!stopped_) stopped_ = std::move(error);
  } catch (...) {
    std::terminate();  // nobody could be told
  }
}

/// Who is left when nothing is done any more.
void Engine::end_rest(const Error& reason) {
  while (true) {
    std::shared_ptr<RequestListener> listener;
    {
      const std::scoped_lock lock(mutex_);
      if (arrivals_.empty()) break;
      listener = std::move(arrivals_.back().listener);
      arrivals_.pop_back();
    }
    listener->on_end(end_of(reason), {});
  }
  core_->fail_all(reason);
}

void Engine::work() {
  try {
    run_steps();
  } catch (const std::exception& e) {
    fail(e.what());
  } catch (...) {
    fail("an unknown exception");
  }
  try {
    end_rest(failure().value_or(unloaded()));
  } catch (const std::bad_alloc&) {
    end_rest(no_memory());
  }
  {
    const std::scoped_lock lock(mutex_);
    facts_ = core_->facts();
  }
  core_.reset();  // waits for what is still to be written
  const std::scoped_lock lock(mutex_);
  works_ = false;
  has_ended_ = true;
  gone_.notify_all();
}

}  // namespace quern
