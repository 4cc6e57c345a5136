// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "quern/base/result.h"
#include "quern/model/model.h"

namespace quern {

/// Bytes this process may still take: what the kernel calls available, and what is left of the cgroup's limit.
int64_t available_memory();

/// How long a context may be and what its state may take.
struct ContextPlan {
  int64_t tokens;        ///< of one sequence
  int64_t state_bytes;   ///< budget of pages and blobs for `sequences` such sequences and their checkpoints
  bool limited = false;  ///< fewer tokens than the model was trained for, because of memory
};

/// `wanted` <= 0: what the model was trained for, as far as memory allows; else exactly that, or out_of_memory.
/// `budget_bytes` bounds weights and state together; <= 0: what is available, less a reserve.
Result<ContextPlan> plan_context(const Model& model, KvType kv, int64_t wanted, int64_t budget_bytes,
                                 int sequences = 1);

}  // namespace quern
