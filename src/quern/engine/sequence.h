// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/page_pool.h"
#include "quern/model/model.h"

namespace quern {

/// The pools behind all sequences of one model: one per page size, one budget. Knows the model's items, not the model.
/// Engine thread only; outlives its sequences and checkpoints.
class StateStore {
 public:
  /// `items` must outlive the store (they are the model's). `budget_bytes` bounds pages and fixed blobs together.
  StateStore(std::span<const StateItem> items, KvType kv, int64_t budget_bytes);

  std::span<const StateItem> items() const { return items_; }
  KvType kv() const { return kv_; }
  KvLayout layout(int item) const;
  bool has_fixed() const { return has_fixed_; }
  /// Whether a sequence can be cut back to any length without a checkpoint: there is neither fixed state nor a window.
  bool cuts_anywhere() const { return !has_fixed_ && !has_window_; }
  MemoryBudget& budget() { return budget_; }
  PagePool* pool(int item) { return pools_of_items_[item]; }
  /// Pages for tokens yet to come that nobody has touched, of `at_once` bytes or so: who has time touches them and lets
  /// go, and a step need not. Empty where idle pages of about `bytes` or an eighth of the budget are ready, or less
  /// than as much again would be left.
  std::vector<PageRef> to_be_touched(int64_t bytes, int64_t at_once);
  /// Pages held by sequences and checkpoints, over all pools.
  int64_t pages_in_use() const;

 private:
  std::span<const StateItem> items_;
  KvType kv_;
  bool has_fixed_ = false, has_window_ = false;
  MemoryBudget budget_;
  std::map<int64_t, std::unique_ptr<PagePool>> pools_;  // by page bytes
  std::vector<PagePool*> pools_of_items_;               // fixed items: a pool of blobs; borrowed: null
};

/// The most that one sequence of `tokens` tokens takes, read in steps of up to `chunk`: a window holds its own tokens
/// and those of the step.
int64_t state_bytes(std::span<const StateItem> items, KvType kv, int64_t tokens, int64_t chunk = 1);
/// What a checkpoint at a page boundary may hold that its sequence no longer does: blobs, and pages behind a window.
int64_t checkpoint_bytes(std::span<const StateItem> items, KvType kv);
/// Of the journal of a token that may be taken back, beside the state.
int64_t journal_bytes(std::span<const StateItem> items);

/// A point of a sequence to come back to: its length and holds on its pages and fixed blobs. Cheap to take and to copy.
struct Checkpoint {
  int64_t length = 0;
  std::vector<std::vector<PageRef>> pages;  ///< by item; null where a window has let go
  std::vector<PageRef> fixed;               ///< by item, null for those that are not fixed
};

/// What one sequence keeps. Pages are shared with forks and checkpoints and copied when written (only the last can be:
/// all before it are full). Engine thread only.
class Sequence {
 public:
  explicit Sequence(StateStore& store);

  int64_t length() const { return length_; }

  /// A hold on page `page` of an item, or on its blob; null where there is none.
  const PageRef* page(int item, int64_t page) const;
  const PageRef* fixed(int item) const { return fixed_[item] ? &fixed_[item] : nullptr; }

  /// Makes room for `tokens` more and returns the views of the step, valid until the next call of anything here.
  /// On failure (out_of_memory) nothing has changed.
  Result<std::span<const StateView>> prepare(int64_t tokens);
  /// Gives back what `prepare` made room for: the step does not happen.
  void abandon();
  /// The step is done: the first `tokens` of those it was prepared for count, and what was for the others is given
  /// back. Windows let go of pages no later token can see. Fixed state must be that after these tokens
  /// (`Run::journal`).
  void commit(int64_t tokens);

  /// Cuts back to `length` tokens. Needs a model without fixed state, and a window must still hold what the next
  /// token sees; `can_truncate` tells.
  bool can_truncate(int64_t length) const;
  void truncate(int64_t length);

  /// The same state twice, sharing all pages. Neither this nor a checkpoint copies anything: `prepare` copies what is
  /// shared.
  Sequence fork() const;
  Checkpoint checkpoint() const { return {length_, pages_, fixed_}; }
  void restore(const Checkpoint& checkpoint);

 private:
  Status grow(int item, int64_t tokens);
  void drop_pages_behind(int64_t length);
  StateStore* store_;
  int64_t length_ = 0;
  std::vector<std::vector<PageRef>> pages_;      // by item
  std::vector<PageRef> fixed_;                   // by item
  std::vector<std::vector<std::byte*>> tables_;  // where pages_ are
  std::vector<StateView> views_;
};

}  // namespace quern
