// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "quern/engine/sequence.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

/// A machine of files: /proc and /sys below a folder.
class Machine {
 public:
  Machine() : root_(fs::temp_directory_path() / fmt::format("quern_machine_{}", ::getpid())) {
    write("proc/meminfo",
          "MemTotal:       16000000 kB\nMemFree: 100 kB\nMemAvailable:    8000000 kB\nHugePages_Total: 0\n");
  }
  ~Machine() { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  int64_t available() const { return available_memory(root_); }

 private:
  fs::path root_;
};

TEST(AvailableMemory, is_what_the_kernel_says_without_a_cgroup) {
  Machine machine;
  EXPECT_EQ(machine.available(), int64_t{8000000} * 1024);
}

TEST(AvailableMemory, a_group_or_one_above_it_limits) {
  Machine machine;
  machine.write("proc/self/cgroup", "0::/outer/inner\n");
  machine.write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  machine.write("sys/fs/cgroup/outer/inner/memory.current", "1000000\n");
  EXPECT_EQ(machine.available(), int64_t{8000000} * 1024);
  machine.write("sys/fs/cgroup/outer/memory.max", "5000000\n");
  machine.write("sys/fs/cgroup/outer/memory.current", "4000000\n");
  EXPECT_EQ(machine.available(), 1000000);
}

TEST(AvailableMemory, page_cache_counts_as_room) {
  Machine machine;
  machine.write("proc/self/cgroup", "0::/\n");
  machine.write("sys/fs/cgroup/memory.max", "5000000\n");
  machine.write("sys/fs/cgroup/memory.current", "4900000\n");
  machine.write("sys/fs/cgroup/memory.stat", "anon 900000\nfile 4000000\nactive_file 1000000\ninactive_file 3000000\n");
  EXPECT_EQ(machine.available(), 5000000 - 900000);
}

TEST(AvailableMemory, the_first_version_of_groups_is_read_too) {
  Machine machine;
  machine.write("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/b\n");
  machine.write("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "3000000\n");
  machine.write("sys/fs/cgroup/memory/b/memory.usage_in_bytes", "1000000\n");
  EXPECT_EQ(machine.available(), 2000000);
}

/// Only its facts.
class Outline : public Model {
 public:
  Outline() {
    info_.n_embd = 64, info_.n_vocab = 1000, info_.context_length = 100000, info_.token_bytes = 4096;
    items_.push_back({.kind = StateKind::rows, .layer = 0, .heads = 2, .key_width = 64, .value_width = 64});
    items_.push_back(
        {.kind = StateKind::window, .layer = 1, .heads = 2, .key_width = 64, .value_width = 64, .window = 200});
    items_.push_back({.kind = StateKind::fixed, .layer = 2, .floats = 1000});
  }
  const ModelInfo& info() const override { return info_; }
  std::span<const StateItem> state() const override { return items_; }
  void forward(const Batch&, Workspace&, Pool&, std::span<float>) const override {}

 private:
  ModelInfo info_;
  std::vector<StateItem> items_;
};

TEST(PlanContext, takes_what_the_model_was_trained_for_where_it_fits) {
  const Outline model;
  auto plan = plan_context(model, KvType::bf16, 0, int64_t{1} << 40);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->tokens, 100000);
  EXPECT_FALSE(plan->limited);
}

TEST(PlanContext, shortens_to_the_longest_that_fits) {
  const Outline model;
  for (int64_t room : {int64_t{8} << 20, int64_t{20} << 20, int64_t{33} << 20}) {
    auto plan = plan_context(model, KvType::bf16, 0, room);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_TRUE(plan->limited);
    EXPECT_EQ(plan->tokens % kKvPageTokens, 0);
    EXPECT_LE(memory_needed(model, KvType::bf16, plan->tokens), room);
    EXPECT_GT(memory_needed(model, KvType::bf16, plan->tokens + kKvPageTokens), room);
  }
}

// A store that may fill all of the room with pages leaves a step nothing to work in.
TEST(PlanContext, leaves_the_scratch_of_a_step_beside_the_state) {
  const Outline model;
  constexpr int64_t kScratch = int64_t{512} * 4096 + 4 * 1000;  // a step's tokens, a row of logits
  for (int sequences : {1, 3}) {
    constexpr int64_t kRoom = 33 << 20;
    auto plan = plan_context(model, KvType::bf16, 0, kRoom, sequences);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_LE(plan->state_bytes + kScratch, kRoom);
    EXPECT_EQ(plan->state_bytes + kScratch, memory_needed(model, KvType::bf16, plan->tokens, sequences));
    StateStore store(model.state(), KvType::bf16, plan->state_bytes);
    std::vector<Sequence> all(sequences, Sequence(store));
    for (Sequence& sequence : all)
      for (int64_t left = plan->tokens; left > 0; left -= 512) {
        ASSERT_TRUE(sequence.prepare(std::min<int64_t>(left, 512)));
        sequence.commit(std::min<int64_t>(left, 512));
      }
  }
  EXPECT_EQ(plan_context(model, KvType::bf16, 640, int64_t{1} << 40)->state_bytes + kScratch,
            memory_needed(model, KvType::bf16, 640));
}

TEST(PlanContext, refuses_what_does_not_fit_with_both_sizes) {
  const Outline model;
  auto plan = plan_context(model, KvType::bf16, 90000, 8 << 20);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::out_of_memory);
  EXPECT_FALSE(plan_context(model, KvType::bf16, 0, 1000));
  EXPECT_FALSE(plan_context(model, KvType::bf16, 0, -5));
}

}  // namespace
}  // namespace quern
