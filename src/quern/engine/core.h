// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "quern/engine/active_request.h"
#include "quern/engine/prefix_cache.h"
#include "quern/engine/request.h"
#include "quern/engine/runner.h"
#include "quern/engine/step_plan.h"

namespace quern {

struct CoreOptions {
  int parallel = 8;                  ///< requests that have a place at the same time, at least 1
  int64_t context = 0;               ///< tokens of one request
  int64_t step_tokens = 512;         ///< of prompts in one step at the most
  bool report_misses = false;        ///< see `take_misses`
  bool speculate = true;             ///< draft from what was said before, where it pays
  PrefixStore* store = nullptr;      ///< the prefix cache's; null: memory only. Must outlive the core
  int64_t brought_bytes = 16 << 20;  ///< of one request's prefix, from the store, in one step
  /// Seconds from any start, never going back: for the length of steps only, never for what comes out.
  std::function<double()> clock;
};

/// What an engine does at the moment, and has done so far.
struct EngineFacts {
  int64_t running = 0, waiting = 0;
  int64_t pages_active = 0;  ///< held by running requests; those that only the cache holds do not count
  int64_t cache_blocks = 0, cache_bytes = 0, state_bytes = 0, state_limit_bytes = 0;
  int64_t scratch_bytes = 0;  ///< Runner::scratch_bytes
  int64_t requests = 0, prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0, preemptions = 0, steps = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;
};

/// All that an engine does, one step at a time and on one thread: gives requests places, reads prompts in pieces beside
/// those that decode, samples, keeps prefixes, and makes room where memory is short. What a request gets does not
/// depend on the company it is in.
class EngineCore {
 public:
  /// All must outlive it.
  EngineCore(Runner& runner, StateStore& state, const Tokenizer& tokenizer, CoreOptions options);
  ~EngineCore();

  /// A request that cannot be served ends at once, with its error. `id`s rise.
  void add(uint64_t id, Request request, std::shared_ptr<RequestListener> listener);
  /// Ends a request as cancelled, wherever it is; one that is not here: nothing.
  void cancel(uint64_t id);
  /// Ends all of them with an error.
  void fail_all(const Error& error);

  /// Does one step; false: there is nothing to do.
  bool step();

  EngineFacts facts() const;
  /// Where prompts went another way than what was known, since the last call; with `report_misses` only.
  std::vector<PrefixMiss> take_misses() { return std::exchange(misses_, {}); }

 private:
  using Active = std::unique_ptr<ActiveRequest>;

  Status check(const Request& request) const;

  // Places.
  void admit();
  bool fits(const ActiveRequest& request, const ActiveRequest* instead_of = nullptr) const;
  Waiter waiter_of(const ActiveRequest& request) const;
  void give_place(std::list<Active>::iterator waiter);
  void bring(ActiveRequest& request);
  void take_place(std::list<Active>::iterator victim);
  void share_places();
  std::list<Active>::iterator next_for_a_place();
  int places_of(const std::string& owner) const;
  void sweep();

  // Steps.
  bool run_step();
  void run_hidden();
  void report_miss(const ActiveRequest& request, const PrefixCache::Hit& hit);
  std::optional<int64_t> answer_start(const ActiveRequest& request) const;
  int64_t next_checkpoint(const ActiveRequest& request, int64_t at) const;
  int64_t next_stop(const ActiveRequest& request, int64_t tokens) const;
  struct Taker;
  std::vector<Taker> takers();
  void draw(Taker& taker) const;
  void draw_all(std::span<Taker> taking);
  void say(Taker& taker);
  void keep(ActiveRequest& request, int64_t before);
  void make_room(ActiveRequest& asking);
  int64_t reserved_bytes(const ActiveRequest& request) const;

  Runner& runner_;
  StateStore& state_;
  const Tokenizer& tokenizer_;
  const CoreOptions options_;
  const int64_t n_vocab_;  // ids that have both a token and a logit
  PrefixCache cache_;
  StepBudget budget_;
  StepCosts costs_;                                   // of steps that only decode
  std::list<Active> waiting_, running_;               // both by arrival
  std::unordered_map<std::string, uint64_t> served_;  // when each owner was last given a place
  uint64_t places_given_ = 0;
  EngineFacts counted_;  // its totals
  std::vector<PrefixMiss> misses_;
};

}  // namespace quern
