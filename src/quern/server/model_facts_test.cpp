// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_facts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "quern/engine/memory.h"
#include "quern/model/golden_testing.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

Result<ModelFacts> facts_at(const fs::path& path) {
  return read_model_facts(path, best_isa(), model_file_states(path));
}

std::string text_of(const ModelFacts& facts) {
  const ModelInfo& info = facts.info;
  std::string out = fmt::format("{} {} {} {} {} {} {} {} {} {}\n{}\n", info.architecture, facts.main_type,
                                info.parameters, info.n_layer, info.n_embd, info.n_vocab, info.context_length,
                                info.weight_bytes, facts.file_bytes, facts.written.seconds, facts.chat_template);
  if (facts.fills_holes) out += "fills holes\n";
  for (const FileState& file : facts.files)
    out += fmt::format("{} {}\n", file.path.string(), file.facts ? file.facts->bytes : -1);
  return out;
}

TEST(ModelFacts, are_the_same_before_and_after_loading) {
  int models = 0;
  for (const char* name : {"quant-llama/model.Q4_0.gguf", "qwen3-tied/hf", "llama/model.bf16.gguf", "llama/hf",
                           "qwen2/hf", "qwen3/hf", "smollm3/hf", "qwen3_5/hf"}) {
    const std::string text = name;
    const size_t slash = text.find('/');
    const fs::path path = testing::golden_model(text.substr(0, slash)) / text.substr(slash + 1);
    if (!fs::exists(path) || (fs::is_directory(path) && !fs::exists(path / "tokenizer.json"))) continue;
    const auto before = facts_at(path);
    ASSERT_TRUE(before) << name << ": " << before.error().message;
    const auto loaded = LoadedModel::load(path, {.threads = 1}, [](int64_t, int64_t) { return true; });
    ASSERT_TRUE(loaded) << name << ": " << loaded.error().message;
    EXPECT_EQ(text_of(*before), text_of(facts_of(**loaded, model_file_states(path))));
    EXPECT_NE(before->chat_template, "") << "one of ours: their tokens tell";
    const auto plan = plan_context((*loaded)->model(), KvType::bf16, 0, 1 << 20);
    EXPECT_EQ(possible_context(*before, {}, before->info.weight_bytes + (1 << 20)), plan ? plan->tokens : 0);
    EXPECT_EQ(possible_context(*before, {}, 0), 0);
    ++models;
  }
  EXPECT_GE(models, 2) << "the first two lie in tests/data";
}

/// A folder of its own with a copy of a model's.
class ModelFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(::testing::TempDir()) / fmt::format("quern-model-facts-{}", ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"})
      fs::copy_file(original_ / name, dir_ / name);
  }
  void TearDown() override { fs::remove_all(dir_); }

  /// The weights in a file that an index names.
  void split_weights() const {
    const auto source = ModelSource::open(dir_);
    ASSERT_TRUE(source) << source.error().message;
    Json map(Json::Object{});
    for (const auto& tensor : (*source)->folder()->tensors()) map.set(tensor.name, "part-1.safetensors");
    fs::rename(dir_ / "model.safetensors", dir_ / "part-1.safetensors");
    std::ofstream(dir_ / "model.safetensors.index.json") << Json(Json::Object{{"weight_map", std::move(map)}}).dump();
  }
  /// The clock of a file system may tick slowly.
  static void let_time_pass() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

  const fs::path models_ = fs::path(QUERN_SOURCE_DIR) / "tests/data/models";
  const fs::path original_ = models_ / "qwen3-tied/hf", file_ = models_ / "quant-llama/model.Q4_0.gguf";
  fs::path dir_;
};

TEST_F(ModelFolder, is_given_by_any_of_its_files) {
  std::ofstream(dir_ / "chat_template.jinja") << "{{ messages[0].content }}";
  const auto weights = static_cast<int64_t>(fs::file_size(dir_ / "model.safetensors"));
  fs::copy_file(dir_ / "model.safetensors", dir_ / "consolidated.safetensors");  // which nobody reads
  const auto expect_all = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      const auto facts = facts_at(dir_ / name);
      ASSERT_TRUE(facts) << name << ": " << facts.error().message;
      EXPECT_EQ(facts->info.architecture, "qwen3") << name;
      EXPECT_EQ(facts->chat_template, "{{ messages[0].content }}") << name;
      EXPECT_EQ(facts->file_bytes, weights) << name;
      EXPECT_GT(facts->written.seconds, 1'600'000'000) << name;
    }
  };
  expect_all({"", "config.json", "model.safetensors"});
  split_weights();
  expect_all({"", "config.json", "model.safetensors.index.json", "part-1.safetensors"});
}

TEST_F(ModelFolder, no_longer_is_what_was_read_when_a_file_of_it_changes) {
  split_weights();
  const fs::path index = dir_ / "model.safetensors.index.json";
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "part-1.safetensors"}) {
    const auto facts = facts_at(index);
    ASSERT_TRUE(facts) << facts.error().message;
    EXPECT_TRUE(still_hold(*facts, index));
    let_time_pass();
    std::fstream(dir_ / name, std::ios::in | std::ios::out | std::ios::binary).put('{');  // no byte more
    EXPECT_FALSE(still_hold(*facts, index)) << name;
    fs::copy_file(original_ / (name[0] == 'p' ? "model.safetensors" : name), dir_ / name,
                  fs::copy_options::overwrite_existing);
  }
  const auto facts = facts_at(index);
  ASSERT_TRUE(facts) << facts.error().message;
  std::ofstream(dir_ / "README.md") << "no matter";
  EXPECT_TRUE(still_hold(*facts, index));
  std::ofstream(dir_ / "chat_template.jinja") << "{{ messages[0].content }}";
  EXPECT_FALSE(still_hold(*facts, index));
}

TEST_F(ModelFolder, is_of_the_time_when_its_weights_were_written) {
  const auto set_time = [&](const char* name, int64_t seconds) {
    const timespec times[] = {{.tv_sec = seconds, .tv_nsec = 7}, {.tv_sec = seconds, .tv_nsec = 7}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (dir_ / name).c_str(), times, 0), 0);
  };
  set_time("model.safetensors", 1'700'000'000);
  set_time("config.json", 1'800'000'000);
  EXPECT_EQ(facts_at(dir_)->written, (FileTime{1'700'000'000, 7}));
  // No clock in nanoseconds goes so far.
  constexpr int64_t kIn2300 = 10'413'792'000;
  set_time("model.safetensors", kIn2300);
  struct stat facts{};
  ASSERT_EQ(::stat((dir_ / "model.safetensors").c_str(), &facts), 0);
  if (facts.st_mtim.tv_sec != kIn2300) GTEST_SKIP() << "this file system does not know that time";
  EXPECT_EQ(facts_at(dir_)->written, (FileTime{kIn2300, 7}));
}

TEST_F(ModelFolder, unread_tells_how_much_there_is) {
  const auto bytes = static_cast<int64_t>(fs::file_size(dir_ / "model.safetensors"));
  const ModelFacts unread = unread_facts(model_file_states(dir_));
  EXPECT_EQ(unread.file_bytes, bytes);
  EXPECT_GT(unread.written.seconds, 1'600'000'000);
  EXPECT_TRUE(still_hold(unread, dir_));
  EXPECT_EQ(unread_facts(model_file_states(dir_ / "absent.gguf")).file_bytes, 0);
}

TEST_F(ModelFolder, without_a_tokenizer_tells_nothing) {
  fs::remove(dir_ / "tokenizer.json");
  const auto facts = facts_at(dir_);
  ASSERT_FALSE(facts);
  EXPECT_NE(facts.error().message.find("tokenizer.json"), std::string::npos) << facts.error().message;
}

TEST_F(ModelFolder, parts_of_a_split_file_count_too) {
  const auto file = gguf::File::open(file_);
  ASSERT_TRUE(file) << file.error().message;
  const auto part = [&](int i) { return dir_ / fmt::format("m-{:05}-of-00002.gguf", i + 1); };
  const auto write = [&](int number) {
    const Status written = testing::write_split_part(*file, static_cast<size_t>(number), 2, part(number));
    ASSERT_TRUE(written) << written.error().message;
  };
  write(0);
  EXPECT_FALSE(facts_at(part(0))) << "the other part is missing";
  write(1);
  const auto whole = facts_at(file_), facts = facts_at(part(0));
  ASSERT_TRUE(facts) << facts.error().message;
  EXPECT_EQ(facts->info.parameters, whole->info.parameters);
  EXPECT_EQ(facts->file_bytes, static_cast<int64_t>(fs::file_size(part(0)) + fs::file_size(part(1))));
  EXPECT_TRUE(still_hold(*facts, part(0)));
  write(1);  // another file of the same bytes
  EXPECT_FALSE(still_hold(*facts, part(0)));
  // Between a look at the files and their reading too.
  for (const int other : {0, 1}) {
    auto states = model_file_states(part(1 - other));
    EXPECT_EQ(states.size(), 2u);
    write(other);
    const auto read = read_model_facts(part(1 - other), best_isa(), std::move(states));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_FALSE(still_hold(*read, part(1 - other))) << other;
  }
  fs::remove(part(0));
  EXPECT_EQ(model_file_states(part(1)).size(), 1u) << "without the first nobody asks for the second";
}

}  // namespace
}  // namespace quern
