// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "quern/engine/sequence.h"

namespace quern {
namespace {

/// Left for the rest of the system and for scratch memory when no budget is given.
constexpr int64_t kReserve = int64_t{256} << 20;
/// Shortest context worth starting with.
constexpr int64_t kLeastTokens = 64;

std::optional<int64_t> read_number(const char* path) {
  std::ifstream in(path);
  int64_t n = 0;
  if (in >> n) return n;  // "max" is no number: no limit
  return std::nullopt;
}

/// What the cgroup (v2, then v1) still allows this process.
int64_t cgroup_room() {
  struct Files {
    const char *limit, *used;
  };
  for (const Files& f :
       {Files{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        Files{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const auto limit = read_number(f.limit), used = read_number(f.used);
    if (limit && used) return std::max<int64_t>(0, *limit - *used);
  }
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream in("/proc/meminfo");
  for (std::string key; in >> key;) {
    int64_t kib = 0;
    if (!(in >> kib)) break;
    if (key == "MemAvailable:") available = kib * 1024;
    in.ignore(64, '\n');
  }
  return std::min(available, cgroup_room());
}

Result<ContextPlan> plan_context(const Model& model, KvType kv, int64_t wanted, int64_t budget_bytes, int sequences) {
  const ModelInfo& info = model.info();
  const auto need = [&](int64_t tokens) {
    // One sequence and as much again for checkpoints of its fixed state and pages written after being shared.
    int64_t fixed = 0;
    for (const StateItem& item : model.state()) fixed += item.kind == StateKind::fixed ? item.floats * 4 : 0;
    return sequences * (state_bytes(model.state(), kv, tokens + kKvPageTokens) + 20 * fixed);
  };
  // A budget counts the weights, which are loaded already; what is available does not hold them any more.
  const int64_t room = budget_bytes > 0 ? budget_bytes - info.weight_bytes : available_memory() - kReserve;
  const int64_t trained = std::max(info.context_length, kLeastTokens);
  const int64_t tokens = wanted > 0 ? wanted : trained;
  if (need(tokens) <= room) return ContextPlan{tokens, need(tokens), false};
  if (wanted > 0)
    return make_error(ErrorCode::out_of_memory, "a context of {} tokens: needs {} MiB, {} MiB are there", wanted,
                      need(tokens) >> 20, std::max<int64_t>(room, 0) >> 20);
  int64_t low = 0, high = tokens;  // the longest that fits
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (need(middle) <= room)
      low = middle;
    else
      high = middle - 1;
  }
  low = low / kKvPageTokens * kKvPageTokens;
  if (low < kLeastTokens)
    return make_error(ErrorCode::out_of_memory, "context: {} tokens need {} MiB, {} MiB are left beside the weights",
                      kLeastTokens, need(kLeastTokens) >> 20, std::max<int64_t>(room, 0) >> 20);
  return ContextPlan{low, need(low), true};
}

}  // namespace quern
