// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "quern/engine/sequence.h"
#include "quern/engine/session.h"

namespace quern {

namespace fs = std::filesystem;

namespace {

/// Left for the rest of the system when no budget is given.
constexpr int64_t kReserve = int64_t{256} << 20;
/// Shortest context worth starting with.
constexpr int64_t kLeastTokens = 64;
/// Tokens of the largest step.
constexpr int64_t kStepTokens = 512;

/// Of the largest step, whatever its sequences.
int64_t scratch_bytes(const ModelInfo& info) { return kStepTokens * info.token_bytes + 4 * info.n_vocab; }

std::optional<int64_t> read_number(const fs::path& path) {
  std::ifstream in(path);
  int64_t n = 0;
  if (in >> n) return n;  // "max" is no number: no limit
  return std::nullopt;
}

/// A number of a file of lines "name number", 0 where it is not there.
int64_t read_line(const fs::path& path, std::string_view name) {
  std::ifstream in(path);
  std::string key;
  for (int64_t n = 0; in >> key >> n;)
    if (key == name) return n;
  return 0;
}

/// What a group still allows. Its use counts the page cache, which makes room when asked: that of files is no use.
int64_t room_of(const fs::path& group, const char* limit_file, const char* used_file) {
  const auto limit = read_number(group / limit_file), used = read_number(group / used_file);
  if (!limit || !used) return std::numeric_limits<int64_t>::max();
  const fs::path stat = group / "memory.stat";
  const int64_t cache = read_line(stat, "inactive_file") + read_line(stat, "active_file");
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

/// The least of what this process's memory cgroup (v2, or v1) and the groups above it still allow.
int64_t cgroup_room(const fs::path& root) {
  int64_t room = std::numeric_limits<int64_t>::max();
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // "0::/path" or "5:memory:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",memory,") == controllers.npos) continue;
    const fs::path top = root / (v2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    fs::path group = top / fs::path(line.substr(second + 1)).relative_path();
    for (;; group = group.parent_path()) {
      room = std::min(room, v2 ? room_of(group, "memory.max", "memory.current")
                               : room_of(group, "memory.limit_in_bytes", "memory.usage_in_bytes"));
      if (group == top || group == group.root_path() || group.native().size() <= top.native().size()) break;
    }
    room = std::min(room, v2 ? room_of(top, "memory.max", "memory.current")  // inside a container the path is another's
                             : room_of(top, "memory.limit_in_bytes", "memory.usage_in_bytes"));
  }
  return room;
}

}  // namespace

int64_t available_memory(const fs::path& root) {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream in(root / "proc/meminfo");
  for (std::string key; in >> key;) {
    int64_t kib = 0;
    if (!(in >> kib)) break;
    if (key == "MemAvailable:") available = kib * 1024;
    in.ignore(64, '\n');
  }
  return std::min(available, cgroup_room(root));
}

int64_t memory_room(int64_t budget_bytes) { return budget_bytes > 0 ? budget_bytes : available_memory() - kReserve; }

int64_t memory_needed(const Model& model, KvType kv, int64_t tokens, int sequences) {
  return memory_needed(model.info(), model.state(), kv, tokens, sequences);
}

int64_t memory_needed(const ModelInfo& info, std::span<const StateItem> items, KvType kv, int64_t tokens,
                      int sequences) {
  const int64_t checkpoints = checkpoint_bytes(items, kv);
  // The blobs of a step are copies while a checkpoint holds the ones before it: one more of them.
  return scratch_bytes(info) +
         sequences * (state_bytes(items, kv, tokens, kStepTokens) + (kSessionCheckpoints + 1) * checkpoints);
}

Result<ContextPlan> plan_context(const Model& model, KvType kv, int64_t wanted, int64_t room, int sequences) {
  return plan_context(model.info(), model.state(), kv, wanted, room, sequences);
}

Result<ContextPlan> plan_context(const ModelInfo& info, std::span<const StateItem> items, KvType kv, int64_t wanted,
                                 int64_t room, int sequences) {
  const auto need = [&](int64_t tokens) { return memory_needed(info, items, kv, tokens, sequences); };
  const int64_t trained = std::max(info.context_length, kLeastTokens);
  const int64_t tokens = wanted > 0 ? wanted : trained;
  // What is given to pages here could not be taken by the scratch of a step any more.
  const auto state = [&](int64_t n) { return need(n) - scratch_bytes(info); };
  if (need(tokens) <= room) return ContextPlan{tokens, state(tokens), false};
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
  return ContextPlan{low, state(low), true};
}

int64_t shared_state_bytes(const Model& model, KvType kv, const ContextPlan& plan, int64_t room, int sequences,
                           bool whole) {
  // Pages take memory when they are first written: what nobody uses costs nothing but the little that an engine keeps
  // ready.
  constexpr int64_t kPrefixes = int64_t{4} << 30;
  const int64_t free = room - scratch_bytes(model.info());
  const int64_t wanted = sequences * state_bytes(model.state(), kv, plan.tokens, kStepTokens) + kPrefixes;
  return std::max(plan.state_bytes, whole ? free : std::min(free / 2, wanted));
}

}  // namespace quern
