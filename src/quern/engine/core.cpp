// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/core.h"

#include <algorithm>
#include <new>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "quern/base/function_ref.h"
#include "quern/engine/memory.h"
#include "quern/engine/paging.h"

namespace quern {
namespace {

/// Where a checkpoint of recurrent state weighs about as much as the rows of so many tokens (docs/architecture.md,
/// "state is data").
constexpr int64_t kCheckpointEvery = 2048;
/// Of an answer only so many tokens are counted on when a request asks for a place: most end early, and who runs out
/// of memory loses its place for a while.
constexpr int64_t kExpectedAnswer = 256;
/// Rows of logits of one step of a prompt whose every token is scored: they are as wide as the vocabulary.
constexpr int64_t kScoredTokens = 32;

/// Guesses of all requests in one step: each costs a row of logits.
constexpr int64_t kGuessesPerStep = 48;
/// Waiters that are tried where the first does not fit into memory, and how often it can be passed.
constexpr int kTriedBehind = 8, kPassedAtMost = 16;

int64_t blocks(int64_t tokens) { return tokens / kKvPageTokens; }

void fail_for_memory(ActiveRequest& request) {
  request.fail(make_error(ErrorCode::out_of_memory, "no memory for this request"));
}
/// Does what is for one request alone: where memory for it is short, that request ends, and no other.
void do_for(ActiveRequest& request, FunctionRef<void()> what) {
  try {
    what();
  } catch (const std::bad_alloc&) {
    fail_for_memory(request);
  }
}

}  // namespace

EngineCore::EngineCore(Runner& runner, StateStore& state, const Tokenizer& tokenizer, CoreOptions options)
    : runner_(runner),
      state_(state),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      n_vocab_(std::min<int64_t>(tokenizer.size(), runner.model().info().n_vocab)),
      cache_(state, options_.store),
      budget_(options_.step_tokens) {
  QUERN_CHECK(options_.parallel >= 1 && options_.context >= 1 && options_.clock, "options of an engine");
}

EngineCore::~EngineCore() { fail_all({ErrorCode::cancelled, "the engine ends"}); }  // so short that it needs no memory

Status EngineCore::check(const Request& request) const {
  const auto n = static_cast<int64_t>(request.prompt.size());
  if (n == 0) return make_error(ErrorCode::invalid_argument, "prompt: expected at least one token, found none");
  for (const TokenId id : request.prompt)
    if (id < 0 || id >= n_vocab_)
      return make_error(ErrorCode::invalid_argument, "prompt: expected token ids 0 to {}, found {}", n_vocab_ - 1, id);
  if (n > options_.context)
    return make_error(ErrorCode::invalid_argument, "prompt: {} tokens, the context holds {}", n, options_.context);
  return check_sampling(request.sampling, n_vocab_);
}

void EngineCore::add(uint64_t id, Request request, std::shared_ptr<RequestListener> listener) {
  ++counted_.requests;
  if (Status good = check(request); !good) {
    RequestEnd end;
    end.error = std::move(good).error();
    return listener->on_end(end, {});
  }
  if (request.counts_prompt) counted_.prompt_tokens += static_cast<int64_t>(request.prompt.size());
  waiting_.push_back(std::make_unique<ActiveRequest>(id, std::move(request), std::move(listener), state_, tokenizer_,
                                                     n_vocab_, options_.context,
                                                     options_.speculate ? &costs_ : nullptr));
}

void EngineCore::cancel(uint64_t id) {
  for (std::list<Active>* list : {&waiting_, &running_}) {
    const auto found = std::ranges::find(*list, id, &ActiveRequest::id);
    if (found == list->end()) continue;
    (*found)->finish(FinishReason::cancelled);
    if (list == &running_) keep(**found, 0);  // an aborted prompt goes on where it stopped when it comes again
    list->erase(found);
    return;
  }
}

void EngineCore::fail_all(const Error& error) {
  for (std::list<Active>* list : {&waiting_, &running_}) {
    for (Active& request : *list) request->fail(error);
    list->clear();
  }
}

int EngineCore::places_of(const std::string& owner) const {
  return static_cast<int>(
      std::ranges::count_if(running_, [&](const Active& r) { return r->request().owner == owner; }));
}

/// What a request may come to take, as far as it is counted on.
int64_t EngineCore::reserved_bytes(const ActiveRequest& request) const {
  const int64_t tokens = std::min(request.most_tokens(), request.length() + kExpectedAnswer);
  return state_bytes(state_.items(), state_.kv(), tokens, options_.step_tokens) +
         2 * checkpoint_bytes(state_.items(), state_.kv());
}

bool EngineCore::fits(const ActiveRequest& request, const ActiveRequest* instead_of) const {
  int64_t reserved = reserved_bytes(request);
  for (const Active& other : running_)
    if (other.get() != instead_of) reserved += reserved_bytes(*other);
  return running_.empty() || reserved <= state_.budget().limit();
}

Waiter EngineCore::waiter_of(const ActiveRequest& request) const {
  const std::string& owner = request.request().owner;
  const auto served = served_.find(owner);
  return {request.request().priority, request.id(), places_of(owner), served == served_.end() ? 0 : served->second};
}

/// Whose turn it is, by rank; those behind the first may pass it a few times where it does not fit and they do.
std::list<EngineCore::Active>::iterator EngineCore::next_for_a_place() {
  std::vector<std::list<Active>::iterator> others;
  for (auto at = waiting_.begin(); at != waiting_.end(); ++at) others.push_back(at);
  std::optional<std::list<Active>::iterator> first;
  for (int tries = 0; tries < kTriedBehind && !others.empty(); ++tries) {
    std::vector<Waiter> waiters;
    for (const auto& at : others) waiters.push_back(waiter_of(**at));
    const auto chosen = others.begin() + next_waiter(waiters);
    if (fits(***chosen)) {
      if (first) ++(**first)->passed;
      return *chosen;
    }
    if (!first) first = *chosen;
    if ((**first)->passed >= kPassedAtMost) break;
    others.erase(chosen);
  }
  return waiting_.end();
}

/// Where all places are taken and somebody has none: the owner with the most gives one up, if that is enough.
void EngineCore::share_places() {
  if (static_cast<int>(running_.size()) < options_.parallel || waiting_.empty()) return;
  std::vector<Waiter> waiters;
  for (const Active& w : waiting_) waiters.push_back(waiter_of(*w));
  const int next = next_waiter(waiters);
  if (waiters[static_cast<size_t>(next)].running > 0) return;
  const auto most = std::ranges::max_element(
      running_, std::less(), [&](const Active& r) { return std::pair(places_of(r->request().owner), r->id()); });
  if (places_of((*most)->request().owner) > 1 && fits(**std::next(waiting_.begin(), next), most->get()))
    take_place(most);
}

void EngineCore::admit() {
  share_places();
  while (!waiting_.empty() && static_cast<int>(running_.size()) < options_.parallel) {
    const auto next = next_for_a_place();
    if (next == waiting_.end()) return;
    give_place(next);
  }
}

void EngineCore::give_place(std::list<Active>::iterator waiter) {
  ActiveRequest& request = **waiter;
  served_[request.request().owner] = ++places_given_;
  const auto place = std::ranges::find_if(running_, [&](const Active& r) { return r->id() > request.id(); });
  running_.splice(place, waiting_, waiter);
  request.start();
  const Request& wanted = request.request();
  // What wants numbers of every token of the prompt has to read them.
  request.arriving = wanted.use_cache && !wanted.prompt_logprobs && !wanted.embedding;
}

/// Gives a request what is known of its prompt. A long one from the disk comes over several steps, others go on.
void EngineCore::bring(ActiveRequest& request) {
  const Request& wanted = request.request();
  if (cache_.bring_rows(wanted.owner, request.ids(), request.length() - 1, options_.brought_bytes, request.cursor))
    return;
  request.arriving = false;
  auto hit = cache_.find(wanted.owner, request.ids(), request.length() - 1, options_.report_misses);
  if (hit.state.length > 0) request.sequence.restore(hit.state);
  request.cursor = std::move(hit.cursor);
  const int64_t found = request.found_cached(hit.state.length);
  if (wanted.counts_prompt) counted_.cached_tokens += found;
  if (options_.report_misses) report_miss(request, hit);
  request.tell_progress();
}

/// Its tokens stay, its state goes: it waits again, by its arrival.
void EngineCore::take_place(std::list<Active>::iterator victim) {
  ActiveRequest& request = **victim;
  const auto place = std::ranges::find_if(waiting_, [&](const Active& r) { return r->id() > request.id(); });
  waiting_.splice(place, running_, victim);
  request.arriving = false;
  request.cursor = {};
  request.sequence = Sequence(state_);
}

void EngineCore::report_miss(const ActiveRequest& request, const PrefixCache::Hit& hit) {
  if (!hit.fork) return;
  const auto& starts = request.request().message_starts;
  PrefixMiss miss;
  miss.request = request.id();
  miss.owner = request.request().owner;
  miss.prompt_tokens = static_cast<int64_t>(request.request().prompt.size());
  miss.cached_tokens = hit.state.length;
  miss.position = hit.fork->position;
  miss.known_id = hit.fork->known_id;
  miss.prompt_id = request.ids()[static_cast<size_t>(miss.position)];
  const auto begun = std::ranges::count_if(starts, [&](int64_t start) { return start <= miss.position; });
  miss.message = std::max<int64_t>(0, begun - 1);
  misses_.push_back(std::move(miss));
}

/// Where a prompt's last message begins, of which templates give an answer's head only: the next turn has another.
std::optional<int64_t> EngineCore::answer_start(const ActiveRequest& request) const {
  const Request& wanted = request.request();
  if (state_.cuts_anywhere() || wanted.message_starts.empty()) return std::nullopt;
  const int64_t start = wanted.message_starts.back();
  if (std::ssize(wanted.prompt) - start > kKvPageTokens) return std::nullopt;
  return start;
}

/// The first place behind `at` of a prompt that is worth coming back to.
int64_t EngineCore::next_checkpoint(const ActiveRequest& request, int64_t at) const {
  const auto prompt = static_cast<int64_t>(request.request().prompt.size());
  int64_t next = at + kCheckpointEvery - at % kCheckpointEvery;
  const auto consider = [&](int64_t place) {
    if (place > at) next = std::min(next, place);
  };
  const auto consider_block = [&](int64_t place) { consider(blocks(place) * kKvPageTokens); };
  if (const auto answer = answer_start(request); answer) {
    consider(*answer);
  } else {  // nothing tells what the next prompt shares: all but its very end
    consider_block(prompt - 1);
    consider_block(prompt - 1 - kKvPageTokens);
  }
  for (const int64_t start : request.request().checkpoints) consider_block(start);
  return next;
}

/// Where a step that would read `tokens` ends: earlier where a prefix is worth coming back to.
int64_t EngineCore::next_stop(const ActiveRequest& request, int64_t tokens) const {
  const int64_t at = request.sequence.length();
  int64_t stop = at + tokens;
  if (request.request().prompt_logprobs) stop = std::min(stop, at + kScoredTokens);
  if (state_.cuts_anywhere() || !request.request().use_cache || !request.reads_prompt()) return stop - at;
  const auto prompt = static_cast<int64_t>(request.request().prompt.size());
  stop = std::min(stop, next_checkpoint(request, at));
  // At the end of a block what was read can be kept even if the client goes away now.
  if (stop < prompt && blocks(stop) > blocks(at)) stop = blocks(stop) * kKvPageTokens;
  return stop - at;
}

/// Keeps what a step has completed.
void EngineCore::keep(ActiveRequest& request, int64_t before) {
  if (!request.request().use_cache || request.request().embedding || request.arriving) return;
  const int64_t now = request.sequence.length();
  const bool end = request.ended() || now == answer_start(request);
  if (blocks(now) == blocks(before) && !end) return;
  auto state = PrefixCache::State::none;
  if (!state_.cuts_anywhere()) {
    // Each lasting one may be a copy of recurrent state, in memory and on disk.
    const bool prompt = now <= static_cast<int64_t>(request.request().prompt.size());
    const bool worth = request.ended() || next_checkpoint(request, now - 1) == now;
    state = prompt && worth ? PrefixCache::State::lasting : PrefixCache::State::passing;
  }
  try {
    cache_.keep(request.request().owner, request.ids(), request.sequence, state, request.cursor);
    if (end) cache_.keep_end(request.ids(), request.sequence, request.cursor);
  } catch (const std::bad_alloc&) {
    request.cursor = {};  // what is not kept is read again next time
  }
}

/// Frees memory for `asking`: what the cache used longest ago, then the place of who came last of those who have most.
/// Where nothing is left to free, `asking` ends.
void EngineCore::make_room(ActiveRequest& asking) {
  constexpr int kAtOnce = 16;
  int freed = 0;
  while (freed < kAtOnce && cache_.evict()) ++freed;
  if (freed > 0 || cache_.settle()) return;
  if (running_.size() == 1)
    return asking.fail(make_error(ErrorCode::out_of_memory, "context memory: {} MiB do not hold this request",
                                  state_.budget().limit() >> 20));
  const auto rank = [&](const Active& r) {
    return std::tuple(places_of(r->request().owner), r->request().priority, r->id());
  };
  take_place(std::ranges::max_element(running_, std::less(), rank));
  ++counted_.preemptions;
}

/// One who takes part in a step.
struct EngineCore::Taker {
  ActiveRequest* request;
  ActiveRequest::Feed feed;
  Outputs outputs;
  int64_t before;  // tokens of its sequence
  int64_t kept;    // of those it reads, guesses that were wrong left out
  std::span<const float> rows = {};
  bool no_memory = false;  // for what it wants of its rows

  int64_t wanted_rows() const {
    const auto all = static_cast<int64_t>(feed.tokens.size());
    return outputs == Outputs::none ? 0 : outputs == Outputs::last ? 1 + feed.drafts : all;
  }
  bool reads_prompt() const { return before < static_cast<int64_t>(request->request().prompt.size()); }
  bool draws() const { return std::ssize(feed.tokens) - feed.drafts >= request->length() - before; }
};

/// What its logits mean for one who took part; nobody is told yet. On a worker, beside others.
void EngineCore::draw(Taker& taker) const {
  ActiveRequest& request = *taker.request;
  const int64_t width = runner_.model().info().n_vocab;
  try {
    if (taker.outputs == Outputs::all) request.score_prompt(taker.before, taker.rows, width);
    if (taker.draws()) request.draw(taker.rows.last(static_cast<size_t>((1 + taker.feed.drafts) * width)), width);
  } catch (const std::bad_alloc&) {
    taker.no_memory = true;
  }
}

/// Every request has numbers, a generator and memory of its own: what it draws does not depend on who draws it.
void EngineCore::draw_all(std::span<Taker> taking) {
  if (taking.size() == 1) return draw(taking[0]);
  runner_.pool().run([&](const Worker& worker) {
    worker.work_through(std::ssize(taking), 1, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) draw(taking[static_cast<size_t>(i)]);
    });
  });
}

/// Tells what a step meant for one who took part.
void EngineCore::say(Taker& taker) {
  ActiveRequest& request = *taker.request;
  const int64_t had = request.length();
  const bool draws = taker.draws();
  int64_t right = 0;
  if (taker.no_memory) {
    fail_for_memory(request);
  } else {
    do_for(request, [&] {
      if (taker.reads_prompt()) request.tell_progress();
      if (draws) right = request.say();
    });
  }
  if (!draws) return;  // there is more to read
  taker.kept -= taker.feed.drafts - right;
  counted_.drafted_tokens += taker.feed.drafts;
  counted_.accepted_tokens += right;
  counted_.generated_tokens += request.length() - had;
}

/// One pass of all whose embeddings are asked for, as far as the step goes.
void EngineCore::run_hidden() {
  std::vector<ActiveRequest*> requests;
  std::vector<Runnable> runnable;
  for (const Active& r : running_) {
    if (!r->request().embedding) continue;
    requests.push_back(r.get());
    runnable.push_back({r->pending(), r->request().priority, r->id(), r->request().owner});
  }
  if (requests.empty()) return;
  const auto plan = plan_step(runnable, budget_.tokens(running_.size() + waiting_.size() > 1));
  std::vector<StepPart> parts;
  std::vector<std::pair<ActiveRequest*, int64_t>> taking;  // where their sequences stood
  for (size_t i = 0; i < requests.size(); ++i) {
    if (plan[i] == 0) continue;
    ActiveRequest& r = *requests[i];
    taking.emplace_back(&r, r.sequence.length());
    parts.push_back({&r.sequence, r.next(plan[i], 0, 0).tokens, Outputs::all});
  }
  const double start = options_.clock();
  auto rows = runner_.hidden(parts);
  if (!rows) {
    if (rows.error().code == ErrorCode::out_of_memory) return make_room(*taking.back().first);
    for (const auto& [request, before] : taking) request->fail(rows.error());
    return;
  }
  const int64_t width = runner_.model().info().n_embd, tokens = std::ssize(*rows) / width;
  std::span<const float> rest = *rows;
  for (size_t i = 0; i < taking.size(); ++i) {
    const auto own = parts[i].tokens.size() * static_cast<size_t>(width);
    ActiveRequest& request = *taking[i].first;
    do_for(request, [&] { request.add_hidden(taking[i].second, rest.first(own), width); });
    rest = rest.subspan(own);
  }
  budget_.measured(tokens, options_.clock() - start);
}

/// Who takes part in the next step, and with which tokens.
std::vector<EngineCore::Taker> EngineCore::takers() {
  std::vector<ActiveRequest*> requests;
  std::vector<Runnable> runnable;
  for (const Active& r : running_) {
    if (r->request().embedding || r->arriving) continue;
    requests.push_back(r.get());
    runnable.push_back({r->pending(), r->request().priority, r->id(), r->request().owner});
  }
  const std::vector<int64_t> plan = plan_step(runnable, budget_.tokens(running_.size() + waiting_.size() > 1));
  const int64_t all = std::reduce(plan.begin(), plan.end());
  std::vector<Taker> out;
  int64_t guesses = kGuessesPerStep;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (plan[i] == 0) continue;
    ActiveRequest& r = *requests[i];
    // A blob can be kept at the end of a block only, and guesses must not jump over it.
    const int64_t at = r.sequence.length();
    const int64_t room = state_.has_fixed() ? kKvPageTokens - at % kKvPageTokens : kMostVerifiedTokens;
    const auto feed =
        r.next(next_stop(r, plan[i]), std::min({room, int64_t{kMostVerifiedTokens}, 1 + guesses}), all - plan[i]);
    guesses -= feed.drafts;
    const auto n = static_cast<int64_t>(feed.tokens.size());
    const bool scored = r.request().prompt_logprobs && r.reads_prompt();
    const bool last = n >= r.pending();
    out.push_back({&r, feed, scored ? Outputs::all : last ? Outputs::last : Outputs::none, at, n});
  }
  return out;
}

/// One step of all who have a place; false: memory was short, others have to be chosen.
bool EngineCore::run_step() {
  std::vector<Taker> taking = takers();
  if (taking.empty()) return true;
  std::vector<StepPart> parts;
  int64_t tokens = 0;
  bool reads = false;
  for (const Taker& t : taking) {
    parts.push_back({&t.request->sequence, t.feed.tokens, t.outputs, t.feed.drafts});
    tokens += std::ssize(t.feed.tokens);
    reads |= t.request->reads_prompt();
  }
  const double start = options_.clock();
  auto rows = runner_.step(parts);
  if (!rows) {
    if (rows.error().code == ErrorCode::out_of_memory) return make_room(*taking.back().request), false;
    for (const Taker& t : taking) t.request->fail(rows.error());
    return true;
  }
  ++counted_.steps;
  std::span<const float> rest = *rows;
  std::vector<int> kept;
  for (Taker& t : taking) {
    const auto own = static_cast<size_t>(t.wanted_rows() * runner_.model().info().n_vocab);
    t.rows = rest.first(own);
    rest = rest.subspan(own);
  }
  draw_all(taking);
  for (Taker& t : taking) {
    say(t);
    kept.push_back(static_cast<int>(t.kept));
  }
  runner_.commit(kept);
  for (const Taker& t : taking) keep(*t.request, t.before);
  const double took = options_.clock() - start;
  budget_.measured(tokens, took);
  if (!reads) costs_.measured(tokens, took);
  return true;
}

void EngineCore::sweep() {
  std::erase_if(running_, [](const Active& r) { return r->ended(); });
}

bool EngineCore::step() {
  admit();
  if (running_.empty()) return false;
  for (const Active& r : running_)
    if (r->arriving) do_for(*r, [&] { bring(*r); });
  const bool done = run_step();
  sweep();
  if (!done) return true;
  run_hidden();
  sweep();
  return !running_.empty() || !waiting_.empty();
}

EngineFacts EngineCore::facts() const {
  EngineFacts facts = counted_;
  facts.running = std::ssize(running_);
  facts.waiting = std::ssize(waiting_);
  for (const Active& r : running_)
    for (const StateItem& item : state_.items())
      if (keeps_pages(item))
        facts.pages_active += pages_for(r->sequence.length()) - first_live_page(item, r->sequence.length());
  facts.cache_blocks = cache_.blocks();
  facts.cache_bytes = cache_.bytes();
  facts.state_bytes = state_.budget().used();
  facts.state_limit_bytes = state_.budget().limit();
  facts.scratch_bytes = runner_.scratch_bytes();
  return facts;
}

}  // namespace quern
