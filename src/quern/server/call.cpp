// SPDX-License-Identifier: Apache-2.0
#include "quern/server/call.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <new>
#include <stdexcept>

#include "quern/chat/reasoning.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;

/// Half of what `AnswerWriter::alive` promises: the longest silence is the time between two looks and this.
constexpr int kLookMilliseconds = 400;

/// Between two pieces of a stream: more tokens that come meanwhile go with the next one. Faster than anybody reads, and
/// the cores that would write, send and parse each token by itself are the ones that compute them.
constexpr int kPaceMilliseconds = 50;
/// An answer begins without it: the first pieces come as they are drawn.
constexpr int kUnpacedPieces = 16;

/// Choices of one call that an engine has at a time: a list of prompts is longer than its queue. And of one prompt: a
/// full queue takes those behind the first too, each with a prompt of its own.
constexpr int kMostUnderWay = 256, kMostAtOnce = 8;

Error no_memory() { return {ErrorCode::out_of_memory, "the server has no memory for this request now"}; }

Error failed() { return {ErrorCode::internal, "the server failed at this request"}; }

/// What an engine tells of one choice, on its way to the server's thread.
struct Event {
  struct PromptRead {};
  int choice;
  std::string text;
  /// An end is large and comes once, tokens are small and many: without a stream all of them wait here.
  std::variant<PromptRead, TokenInfo, std::unique_ptr<RequestEnd>> what;
};

/// One choice on the server's thread.
struct Choice {
  ReasoningSplitter splitter{AnswerPlace::start};
  std::string reasoning, text;    // not yet passed on
  std::vector<TokenInfo> tokens;  // the same
  int64_t n_tokens = 0, reasoning_tokens = 0;
  bool reasons = false;  // some reasoning came
  bool answers = false;  // some answer came
  bool read = false;     // its prompt was
  Usage usage;
};

/// A call under way. It lives as long as an engine or a task knows it.
class CallRun : public std::enable_shared_from_this<CallRun> {
 public:
  CallRun(std::shared_ptr<ServedModel> model, Call call, std::shared_ptr<AnswerWriter> answer,
          std::shared_ptr<ResponseWriter> writer, Executors executors)
      : model_(std::move(model)),
        call_(std::move(call)),
        answer_(std::move(answer)),
        writer_(std::move(writer)),
        executors_(std::move(executors)) {}

  /// On a compute thread.
  void start() {
    if (auto refusal = prepare()) return refuse(*std::move(refusal));
    writer_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->leave();
    });
    const int first = std::min(n_prompts(), kMostUnderWay / most_at_once());
    next_prompt_ = first;
    executors_.serve([self = shared_from_this()] { self->begin(); });
    for (int p = 0; p < first; ++p) submit_prompt(p);
  }

  /// Work on a compute thread: what it throws ends the call.
  template <typename Work>
  void guarded_start(Work work) {
    try {
      work();
    } catch (const std::bad_alloc&) {
      refuse(no_memory());
    } catch (const std::length_error&) {
      refuse(no_memory());
    } catch (...) {
      refuse(failed());
    }
  }

  /// From an engine's thread that has no memory for an event: the next look ends the call.
  void lose() noexcept { lost_.store(true, std::memory_order_relaxed); }

  void refuse(Refusal refusal) {
    executors_.serve([self = shared_from_this(), refusal = std::move(refusal)] { self->fail(refusal); });
  }

  /// From an engine's thread: at most one task is on its way to the server's thread at a time, whatever comes until it
  /// runs goes with it. Tokens wait for their pace, and without a stream for the end; there the first one does not:
  /// it tells when the prompt was read.
  void push(Event event) {
    const bool token = std::holds_alternative<TokenInfo>(event.what);
    {
      const std::lock_guard lock(mutex_);
      inbox_.push_back(std::move(event));
      if (token && std::exchange(token_came_, true) && !call_.stream) return;
      if (token ? next_drain_ != Drain::none : next_drain_ == Drain::posted) return;
      next_drain_ = Drain::posted;
    }
    executors_.serve([self = shared_from_this()] { self->drain(); });
  }

 private:
  int n_prompts() const { return static_cast<int>(prompts_.size()); }
  /// Answers to one prompt that are under way together.
  int most_at_once() const { return std::min(call_.n, kMostAtOnce); }

  /// Prompts as ids; what speaks against them.
  std::optional<Refusal> prepare() {
    if (const auto* chat = std::get_if<ChatPrompt>(&call_.prompt)) {
      auto rendered = render_prompt(*model_, *chat);
      if (!rendered) return std::move(rendered).error();
      answer_place_ = rendered->answer_place;
      call_.settings.message_starts = std::move(rendered->message_starts);
      call_.settings.checkpoints = std::move(rendered->checkpoints);
      prompts_.push_back(std::move(rendered->ids));
    } else {
      prompts_ = std::move(std::get<1>(call_.prompt));
    }
    if (model_->full()) {
      Refusal later = Error{ErrorCode::out_of_memory, "too many requests wait for an answer: try again later"};
      later.status = 429;
      return later;
    }
    const bool writes = call_.settings.max_tokens != 0 && !call_.settings.embedding;
    for (const auto& prompt : prompts_) {
      const auto tokens = static_cast<int64_t>(prompt.size());
      if (tokens == 0) return Error{ErrorCode::invalid_argument, "prompt: expected at least one token, found none"};
      if (tokens + (writes ? 1 : 0) > model_->context_tokens())
        return Refusal(Overflow{.prompt_tokens = tokens, .context_tokens = model_->context_tokens()});
      prompt_tokens_ += tokens;
    }
    choices_.resize(prompts_.size() * static_cast<size_t>(call_.n));
    for (Choice& choice : choices_) choice.splitter = ReasoningSplitter(answer_place_);
    ids_.resize(choices_.size());
    open_.assign(prompts_.size(), call_.n);
    begun_.assign(prompts_.size(), at_first());
    return std::nullopt;
  }

  void submit(int first, int count);

  /// Where there is a cache the other answers to a prompt wait until it was read once.
  int at_first() const { return call_.settings.use_cache ? 1 : most_at_once(); }
  void submit_prompt(int prompt) { submit(prompt * call_.n, at_first()); }

  // On the server's thread from here on.

  void begin() {
    if (over_) return;
    last_ = Clock::now();
    guarded([this] { answer_->begin(prompt_tokens_); });
    look_later();
  }

  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const std::bad_alloc&) {
      fail(no_memory());
    } catch (const std::length_error&) {
      fail(no_memory());
    } catch (...) {
      fail(failed());
    }
  }

  void look_later() {
    executors_.later(kLookMilliseconds, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || self->over_) return;
      if (self->lost_.load(std::memory_order_relaxed)) return self->fail(no_memory());
      if (Clock::now() - self->last_ >= std::chrono::milliseconds(kLookMilliseconds)) self->alive();
      self->look_later();
    });
  }

  void alive() {
    last_ = Clock::now();
    guarded([this] { answer_->alive(); });
  }

  void drain() {
    std::vector<Event> events;
    bool paced = false;
    {
      const std::lock_guard lock(mutex_);
      events.swap(inbox_);
      paced = call_.stream && unpaced_ == 0 && std::any_of(events.begin(), events.end(), [](const Event& event) {
                return std::holds_alternative<TokenInfo>(event.what);
              });
      next_drain_ = paced ? Drain::timed : Drain::none;
    }
    if (unpaced_ > 0) --unpaced_;
    if (paced)
      executors_.later(kPaceMilliseconds, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->drain_if_timed();
      });
    guarded([&] {
      for (Event& event : events)
        if (!over_) take(event);
      for (size_t i = 0; i < choices_.size() && !over_; ++i) pass_on(static_cast<int>(i));
    });
  }

  void drain_if_timed() {
    {
      const std::lock_guard lock(mutex_);
      if (next_drain_ != Drain::timed) return;
    }
    drain();
  }

  void take(Event& event) {
    Choice& choice = choices_[static_cast<size_t>(event.choice)];
    release_others(event.choice);
    if (auto* token = std::get_if<TokenInfo>(&event.what)) return take_token(choice, event.text, *token);
    if (auto* end = std::get_if<std::unique_ptr<RequestEnd>>(&event.what)) take_end(event.choice, event.text, **end);
  }

  /// The prompt of a choice was read: the other answers to it find it in the cache.
  void release_others(int choice) {
    if (call_.n == 1 || !call_.settings.use_cache || choice % call_.n != 0) return;
    if (std::exchange(choices_[static_cast<size_t>(choice)].read, true)) return;
    submit_more(choice / call_.n, most_at_once() - 1);
  }

  /// So many more answers to a prompt, as far as they are wanted.
  void submit_more(int prompt, int count) {
    int& begun = begun_[static_cast<size_t>(prompt)];
    count = std::min(count, call_.n - begun);
    if (count == 0) return;
    executors_.compute([self = shared_from_this(), first = prompt * call_.n + begun, count] {
      self->guarded_start([&] { self->submit(first, count); });
    });
    begun += count;
  }

  void take_token(Choice& choice, std::string_view text, TokenInfo& token) {
    ++choice.n_tokens;
    take_text(choice, text);
    choice.tokens.push_back(std::move(token));
  }

  void take_text(Choice& choice, std::string_view text) {
    if (!call_.split_reasoning) {
      choice.text += text;
      return;
    }
    const ReasoningSplitter::Piece piece = choice.splitter.push(text);
    take_piece(choice, piece);
  }

  void take_piece(Choice& choice, const ReasoningSplitter::Piece& piece) {
    choice.reasons = choice.reasons || !piece.reasoning.empty();
    if (!piece.answer.empty() && !std::exchange(choice.answers, true) && choice.reasons)
      choice.reasoning_tokens = choice.n_tokens - 1;  // this token's text is the answer's first
    choice.reasoning += piece.reasoning;
    choice.text += piece.answer;
  }

  /// Tokens whose text is held back go with the piece that shows it.
  void pass_on(int index) {
    Choice& choice = choices_[static_cast<size_t>(index)];
    if (choice.reasoning.empty() && choice.text.empty()) return;
    write_piece(index, choice);
  }

  void write_piece(int index, Choice& choice) {
    last_ = Clock::now();
    answer_->piece(index, choice.reasoning, choice.text, choice.tokens);
    choice.reasoning.clear();
    choice.text.clear();
    choice.tokens.clear();
  }

  void take_end(int index, std::string_view text, RequestEnd& end) {
    Choice& choice = choices_[static_cast<size_t>(index)];
    if (end.error) return fail(*std::move(end.error));
    if (end.finish == FinishReason::cancelled) return fail(Error{ErrorCode::cancelled, "the server is stopping"});
    take_text(choice, text);
    if (call_.split_reasoning) take_piece(choice, choice.splitter.flush());
    if (choice.reasons && !choice.answers) choice.reasoning_tokens = choice.n_tokens;
    if (!choice.reasoning.empty() || !choice.text.empty() || !choice.tokens.empty()) write_piece(index, choice);
    choice.usage = end.usage;
    answer_->end_choice(index, ChoiceEnd{end.finish, std::move(end.stop), std::move(end.prompt_logprobs),
                                         std::move(end.embedding), choice.usage});
    if (--open_[static_cast<size_t>(index / call_.n)] > 0) return submit_more(index / call_.n, 1);
    if (std::all_of(open_.begin(), open_.end(), [](int open) { return open == 0; })) return finish();
    submit_next();
  }

  /// A prompt has all its answers: another takes its place.
  void submit_next() {
    if (next_prompt_ == n_prompts()) return;
    executors_.compute([self = shared_from_this(), prompt = next_prompt_++] {
      self->guarded_start([&] { self->submit_prompt(prompt); });
    });
  }

  void finish() {
    over_ = true;
    CallEnd end;
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Usage& usage = choices_[i].usage;
      if (i % static_cast<size_t>(call_.n) == 0) {
        end.usage.prompt_tokens += usage.prompt_tokens;
        end.usage.cached_tokens += usage.cached_tokens;
      }
      end.usage.completion_tokens += usage.completion_tokens;
      end.usage.drafted_tokens += usage.drafted_tokens;
      end.usage.accepted_tokens += usage.accepted_tokens;
      end.reasoning_tokens += choices_[i].reasoning_tokens;
    }
    answer_->end(end);
  }

  void fail(const Refusal& refusal) {
    if (over_) return;
    leave();
    answer_->fail(refusal);
  }

  /// Nobody waits for the answer any more.
  void leave() {
    over_ = true;
    std::vector<std::optional<uint64_t>> ids;
    {
      const std::lock_guard lock(mutex_);
      left_ = true;
      ids.swap(ids_);
    }
    for (const auto id : ids)
      if (id) model_->cancel(*id);
  }

  // constant after `prepare`
  std::shared_ptr<ServedModel> model_;
  Call call_;
  std::shared_ptr<AnswerWriter> answer_;
  std::shared_ptr<ResponseWriter> writer_;
  Executors executors_;
  std::vector<std::vector<TokenId>> prompts_;
  int64_t prompt_tokens_ = 0;
  AnswerPlace answer_place_ = AnswerPlace::start;

  // server's thread only
  std::vector<Choice> choices_;
  std::vector<int> open_;   // answers that each prompt still waits for
  std::vector<int> begun_;  // answers to each prompt that were submitted with it or since
  int next_prompt_ = 0;     // the first that was not submitted
  Clock::time_point last_;  // when something was last written
  bool over_ = false;
  int unpaced_ = kUnpacedPieces;

  std::atomic<bool> lost_{false};  // an event

  std::mutex mutex_;
  std::vector<Event> inbox_;  // guarded by mutex_
  enum class Drain : uint8_t { none, timed, posted };
  Drain next_drain_ = Drain::none;            // guarded by mutex_
  bool token_came_ = false;                   // guarded by mutex_
  bool left_ = false;                         // guarded by mutex_
  std::vector<std::optional<uint64_t>> ids_;  // guarded by mutex_; empty once left
};

/// Hands on what the engine tells of one choice. Memory that runs out there must not stop the engine: the choice then
/// ends with that error.
class ChoiceListener : public RequestListener {
 public:
  ChoiceListener(std::shared_ptr<CallRun> run, int choice) : run_(std::move(run)), choice_(choice) {}

  void on_prompt(int64_t done, int64_t total) override {
    if (done == total) push([&] { return Event{choice_, {}, Event::PromptRead{}}; });
  }
  void on_token(const TokenInfo& token, std::string_view text) override {
    push([&] { return Event{choice_, std::string(text), token}; });
  }
  void on_end(const RequestEnd& end, std::string_view text) override {
    push([&] { return Event{choice_, std::string(text), std::make_unique<RequestEnd>(end)}; });
  }

 private:
  template <typename Make>
  void push(Make make) noexcept {
    try {
      run_->push(make());
    } catch (...) {
      run_->lose();
    }
  }

  std::shared_ptr<CallRun> run_;
  int choice_;
};

void CallRun::submit(int first, int count) {
  for (int index = first; index < first + count; ++index) {
    {
      const std::lock_guard lock(mutex_);
      if (left_) return;
    }
    Request request = call_.settings;
    request.prompt = prompts_[static_cast<size_t>(index / call_.n)];
    request.counts_prompt = index % call_.n == 0;
    request.admitted = true;  // `prepare` asked whether it may wait: the queue may fill in between
    request.sampling.seed += static_cast<uint64_t>(index % call_.n);
    const uint64_t id = model_->submit(std::move(request), std::make_shared<ChoiceListener>(shared_from_this(), index));
    bool late = false;
    {
      const std::lock_guard lock(mutex_);
      late = left_;
      if (!late) ids_[static_cast<size_t>(index)] = id;
    }
    if (late) model_->cancel(id);
  }
}

}  // namespace

void run_call(std::shared_ptr<ServedModel> model, Call call, std::shared_ptr<AnswerWriter> answer,
              std::shared_ptr<ResponseWriter> writer, const Executors& executors) {
  auto run =
      std::make_shared<CallRun>(std::move(model), std::move(call), std::move(answer), std::move(writer), executors);
  // Here, not in a task of its own: those wait without a bound, with what was a body in them.
  run->guarded_start([&] { run->start(); });
}

}  // namespace quern
