// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "quern/base/result.h"
#include "quern/model/model.h"

namespace quern {

/// Bytes this process may still take: what the kernel calls available, and what its cgroup and those above it allow.
/// Below `root` are /proc and /sys.
int64_t available_memory(const std::filesystem::path& root = "/");

/// Bytes that weights, state and scratch may take together: the budget, or (<= 0) what is available, less a reserve.
int64_t memory_room(int64_t budget_bytes);

/// Bytes of state and scratch that `sequences` conversations of `tokens` tokens need, their checkpoints included.
int64_t memory_needed(const Model& model, KvType kv, int64_t tokens, int sequences = 1);
/// The same of a model that is not there, by its `info` and the `items` of its state.
int64_t memory_needed(const ModelInfo& info, std::span<const StateItem> items, KvType kv, int64_t tokens,
                      int sequences = 1);

/// How long a context may be and what its state may take.
struct ContextPlan {
  int64_t tokens;        ///< of one sequence
  int64_t state_bytes;   ///< budget of pages and blobs for the sequences and their checkpoints; scratch is beside it
  bool limited = false;  ///< fewer tokens than the model was trained for, because of memory
};

/// `wanted` <= 0: what the model was trained for, as far as `room` bytes allow; else exactly that, or out_of_memory.
Result<ContextPlan> plan_context(const Model& model, KvType kv, int64_t wanted, int64_t room, int sequences = 1);
/// The same of a model that is not there, by its `info` and the `items` of its state.
Result<ContextPlan> plan_context(const ModelInfo& info, std::span<const StateItem> items, KvType kv, int64_t wanted,
                                 int64_t room, int sequences = 1);

/// State for up to `sequences` contexts of `plan` at once and for prefixes that were read before: all of `room` that is
/// left beside scratch where a budget was given (`whole`), else what these are likely to need, and never most of the
/// machine. At least what `plan` says.
int64_t shared_state_bytes(const Model& model, KvType kv, const ContextPlan& plan, int64_t room, int sequences,
                           bool whole);

}  // namespace quern
