// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "quern/server/model_host.h"
#include "quern/server/model_host_testing.h"
#include "quern/server/ollama_models.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using namespace std::chrono_literals;
using testing::ModelHostTest;

TEST_F(ModelHostTest, shows_models_that_are_not_loaded) {
  const auto h = host(3);
  const auto cards = h->models();
  ASSERT_EQ(cards.size(), 3u);
  EXPECT_EQ(cards[1].name, "b");
  EXPECT_EQ(cards[1].aliases, (std::vector<std::string>{"other", "gpt-4"}));
  EXPECT_FALSE(cards[1].loaded);
  const ModelDetails details = h->details(cards[1]);
  EXPECT_EQ(details.file_bytes, static_cast<int64_t>(std::filesystem::file_size(file_)));
  EXPECT_GT(details.created, 0);
  EXPECT_EQ(details.format, "gguf");
  EXPECT_EQ(details.facts->info.architecture, "llama");
  EXPECT_EQ(details.facts->main_type, "Q4_0");
  EXPECT_GT(details.facts->info.parameters, 0);
  EXPECT_EQ(details.context_tokens, load_.context);
  EXPECT_EQ(h->loaded_model(), nullptr);
  EXPECT_EQ(loads_, 0);
}

TEST_F(ModelHostTest, facts_are_the_same_before_in_and_after_memory) {
  const auto h = host(2);
  const auto told = [&] {
    const ModelDetails details = details_of(*h, "b");
    const ModelInfo& info = details.facts->info;
    return fmt::format("{} {} {} {} {} {} {} {} {} {}", info.architecture, details.facts->main_type, info.parameters,
                       info.n_layer, info.n_embd, info.n_vocab, info.context_length, details.context_tokens,
                       details.facts->fills_holes, details.facts->chat_template);
  };
  const std::string before = told();
  ask(*h, "b");
  EXPECT_EQ(loaded(*h), "b");
  EXPECT_EQ(h->loaded_model()->name(), "b");
  EXPECT_EQ(told(), before);
  const auto in_memory = details_of(*h, "b").facts;
  for (const char* other : {"a", "c"}) {
    settle(*h);
    ask(*h, other);
  }
  EXPECT_EQ(loaded(*h), "ac");
  EXPECT_EQ(told(), before);
  EXPECT_EQ(details_of(*h, "b").facts, in_memory) << "read again";
}

TEST_F(ModelHostTest, facts_are_read_once_for_many_who_ask_at_the_same_time) {
  constexpr int kMany = 4;
  std::atomic<int> reads = 0;
  HostOptions options{.load = load_};
  options.read_facts = [&](const auto& path, Isa isa, std::vector<FileState> files) {
    ++reads;
    std::this_thread::sleep_for(50ms);  // the others come meanwhile
    return read_model_facts(path, isa, std::move(files));
  };
  EngineHost h({{"a", file_, {}}}, options,
               [this](const auto& path, const LoadOptions& load) { return this->load(path, load); });
  std::barrier start(kMany);
  std::vector<std::future<std::shared_ptr<const ModelFacts>>> all;
  for (int i = 0; i < kMany; ++i)
    all.push_back(std::async(std::launch::async, [&] {
      start.arrive_and_wait();
      return details_of(h, "a").facts;
    }));
  for (auto& each : all) EXPECT_EQ(each.get()->info.architecture, "llama");
  EXPECT_EQ(details_of(h, "a").facts->info.architecture, "llama");
  EXPECT_EQ(reads, 1);
}

TEST_F(ModelHostTest, reads_the_facts_of_files_anew_when_they_change) {
  const auto copy = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-host-facts-{}", ::getpid());
  std::ofstream(copy) << "no model";
  EngineHost h({{"a", copy, {}}}, {.load = load_},
               [this](const auto& path, const LoadOptions& load) { return this->load(path, load); });
  EXPECT_EQ(details_of(h, "a").facts->info.architecture, "");
  EXPECT_EQ(details_of(h, "a").context_tokens, 0);
  std::filesystem::copy_file(file_, copy, std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(details_of(h, "a").facts->info.architecture, "llama");
  std::filesystem::remove(copy);
}

/// What cannot be read for reasons that no file shows: `why`, while it says something.
class UnreadableFacts : public ModelHostTest {
 protected:
  std::unique_ptr<EngineHost> host(std::chrono::milliseconds rest) {
    HostOptions options{.load = load_, .facts_rest = rest};
    options.read_facts = [this](const auto& path, Isa isa, std::vector<FileState> files) -> Result<ModelFacts> {
      ++reads_;
      if (!why_.empty()) return make_error(ErrorCode::internal, "{}", why_);
      return read_model_facts(path, isa, std::move(files));
    };
    return std::make_unique<EngineHost>(
        std::vector<ModelEntry>{{"a", file_, {}}}, options,
        [this](const auto& path, const LoadOptions& load) { return this->load(path, load); });
  }
  std::string why_ = "no memory for that";
  int reads_ = 0;
};

TEST_F(UnreadableFacts, rest_for_a_while) {
  const auto h = host(1h);
  const auto failed = details_of(*h, "a").facts;
  EXPECT_EQ(failed->info.architecture, "");
  EXPECT_EQ(details_of(*h, "a").facts, failed) << "clients may ask as often as they like";
  EXPECT_EQ(details_of(*h, "a").file_bytes, static_cast<int64_t>(std::filesystem::file_size(file_)));
  EXPECT_GT(details_of(*h, "a").created, 0);
  EXPECT_EQ(reads_, 1);
}

TEST_F(UnreadableFacts, are_tried_again_though_the_file_is_the_same) {
  const auto h = host(0ms);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(details_of(*h, "a").facts->info.architecture, "");
    EXPECT_EQ(reads_, i);
  }
  why_.clear();
  EXPECT_EQ(details_of(*h, "a").facts->info.architecture, "llama");
  EXPECT_EQ(details_of(*h, "a").facts->info.architecture, "llama");
  EXPECT_EQ(reads_, 4) << "read again though nothing failed";
}

TEST_F(UnreadableFacts, are_told_once) {
  const auto h = host(0ms);
  const auto told = [&] {
    details_of(*h, "a");
    std::string out;
    for (const Error& error : h->take_errors()) out += error.message + ";";
    return out;
  };
  EXPECT_EQ(told(), file_.string() + ": no memory for that;");
  EXPECT_EQ(told(), "");
  why_ = file_.string() + ": broken";
  EXPECT_EQ(told(), why_ + ";") << "another reason";
  broken_ = true;
  EXPECT_FALSE(h->model("a"));
  EXPECT_EQ(told(), "") << "it does not load for the same reason";
  why_.clear();
  EXPECT_EQ(told(), "");
  EXPECT_EQ(details_of(*h, "a").facts->info.architecture, "llama");
}

TEST_F(UnreadableFacts, tell_a_lack_of_memory_and_a_failure_to_load_beside_it_once_each) {
  const auto h = host(0ms);
  const auto told = [&] {
    std::string out;
    for (const Error& error : h->take_errors()) out += error.message + ";";
    return out;
  };
  broken_ = true;
  EXPECT_FALSE(h->model("a"));
  details_of(*h, "a");  // before anybody has taken the other
  EXPECT_EQ(told(), file_.string() + ": broken;" + file_.string() + ": no memory for that;");
  EXPECT_FALSE(h->model("a"));
  details_of(*h, "a");
  EXPECT_EQ(told(), "");
}

TEST_F(ModelHostTest, blames_the_sandbox_for_what_it_keeps_shut_alone) {
  std::string why;
  std::filesystem::path shut;
  HostOptions options{.load = load_, .facts_rest = 0ms};
  options.read_facts = [&](const auto&, Isa, std::vector<FileState>) -> Result<ModelFacts> {
    return Error{ErrorCode::invalid_argument, why};
  };
  options.is_shut = [&](const auto& path) { return path == shut; };
  const std::filesystem::path folder = std::filesystem::path(QUERN_SOURCE_DIR) / "tests/data/models/qwen3-tied/hf";
  const auto told = [&](const std::filesystem::path& path, const std::string& error) {
    EngineHost h({{"a", path, {}}}, options,
                 [this](const auto& p, const LoadOptions& load) { return this->load(p, load); });
    why = error;
    details_of(h, "a");
    const auto errors = h.take_errors();
    return errors.size() == 1 ? errors[0].message : fmt::format("{} errors", errors.size());
  };
  const auto advice = [&](const std::string& error) {
    return shut.string() + ": replaced or added since the server's start, and the sandbox keeps it shut: restart the " +
           "server (" + error + ")";
  };
  const std::string denied = file_.string() + ": open: Permission denied";
  EXPECT_EQ(told(file_, denied), denied) << "by its rights";
  shut = file_;
  EXPECT_EQ(told(file_, denied), advice(denied));
  EXPECT_EQ(told(file_, "rope: expected 1, found 2"), file_.string() + ": rope: expected 1, found 2");

  shut = folder / "tokenizer.json";
  const std::string broken = (folder / "config.json").string() + ": expected this, found that";
  const std::string tokens = shut.string() + ": open: Permission denied";
  EXPECT_EQ(told(folder, broken), broken) << "another file";
  EXPECT_EQ(told(folder, tokens), advice(tokens));
  const std::string longer = shut.string() + ".json: expected this, found that";
  EXPECT_EQ(told(folder, longer), longer) << "a longer name";
  shut = folder;
  EXPECT_EQ(told(folder, broken), advice(broken)) << "the folder that it lies in";
}

TEST_F(ModelHostTest, a_folder_written_into_is_another_model_in_the_lists) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-host-folder-{}", ::getpid());
  std::filesystem::copy(std::filesystem::path(QUERN_SOURCE_DIR) / "tests/data/models/qwen3-tied/hf", folder);
  const auto weights = folder / "model.safetensors";
  EngineHost h({{"a", folder, {}}}, {.load = {.threads = 1}}, [](const auto& path, const LoadOptions& load) {
    return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
  });
  const auto digest = [&] {
    const ModelCard card = h.models()[0];
    return ollama_model_object(card, h.details(card)).find("digest")->string();
  };
  const auto write_into = [&] {
    std::this_thread::sleep_for(20ms);  // the clock of a file system may tick slowly
    std::fstream(weights, std::ios::in | std::ios::out | std::ios::binary).seekp(-1, std::ios::end).put('x');
  };
  const std::string before = digest();
  EXPECT_EQ(digest(), before);
  write_into();
  const std::string after = digest();
  EXPECT_NE(after, before);
  const timespec long_ago[] = {{.tv_sec = 1'600'000'000, .tv_nsec = 0}, {.tv_sec = 1'600'000'000, .tv_nsec = 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, weights.c_str(), long_ago, 0), 0);
  EXPECT_EQ(details_of(h, "a").created, 1'600'000'000) << "of the weights, not of the folder";
  // What is in memory is the state that was loaded.
  const std::string now = digest();
  ASSERT_TRUE(h.model("a"));
  EXPECT_EQ(digest(), now);
  write_into();
  EXPECT_EQ(digest(), now);
  EXPECT_EQ(details_of(h, "a").created, 1'600'000'000);
  std::filesystem::remove_all(folder);
}

TEST_F(ModelHostTest, a_context_is_planned_for_a_model_alone_whatever_is_in_memory) {
  load_.context = 0;
  std::atomic<int> begun = 0;
  const auto loads = [&](const auto& path, LoadOptions load) {
    ++begun;
    if (may_load_.valid()) may_load_.wait();
    load.memory_budget = 0;
    return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
  };
  const auto model = ModelSource::open(file_);
  ASSERT_TRUE(model);
  const auto outline = load_outline(**model, best_isa());
  ASSERT_TRUE(outline);
  const int64_t weights = (*outline)->info().weight_bytes;
  const auto room_for = [&](int64_t tokens) { return weights + memory_needed(**outline, load_.kv, tokens); };
  std::atomic<int64_t> room = room_for(128);
  std::atomic<int> asked = 0;
  HostOptions options{.load = load_, .engine = {.parallel = 2, .cache_dir = {}}};
  options.memory_room = [&](int64_t) { return ++asked, room.load(); };
  EngineHost h({{"a", file_, {}}, {"b", file_, {}}}, options, loads);
  EXPECT_EQ(details_of(h, "b").context_tokens, 128);
  EXPECT_EQ(details_of(h, "b").context_tokens, 128);
  EXPECT_EQ(asked, 1);

  // What is loaded has taken its weights, and nothing of its state yet.
  ASSERT_TRUE(h.model("a"));
  room = room_for(128) - weights;
  EXPECT_EQ(details_of(h, "b").context_tokens, 128);
  room = room_for(192) - weights;
  EXPECT_EQ(details_of(h, "b").context_tokens, 128) << "nothing has come or gone";

  // Nor does what its steps have taken count, or the state of what it has read.
  EngineHost three({{"a", file_, {}}, {"b", file_, {}}, {"c", file_, {}}}, options, loads);
  ask(three, "a", 8);
  settle(three);
  const int64_t scratch = metric(three, "quern_scratch_bytes", "a"), state = metric(three, "quern_state_bytes", "a");
  EXPECT_GT(scratch, room_for(128) - room_for(64)) << "too little to tell";
  ASSERT_TRUE(three.model("c"));
  room = room_for(128) - 2 * weights - state - scratch;
  EXPECT_EQ(details_of(three, "b").context_tokens, 128);

  // Half way through a load nobody knows whose the memory is.
  EngineHost other({{"a", file_, {}}, {"b", file_, {}}}, options, loads);
  std::promise<void> let_load, done;
  may_load_ = let_load.get_future().share();
  ASSERT_TRUE(other.load_later("a", [&](const auto&) { done.set_value(); }));
  for (int i = 0; i < 3000 && begun < 4; ++i) std::this_thread::sleep_for(10ms);
  room = room_for(64);
  EXPECT_EQ(details_of(other, "b").context_tokens, 64);
  room = room_for(256);
  EXPECT_EQ(details_of(other, "b").context_tokens, 256) << "kept from the middle of a load";
  let_load.set_value();
  done.get_future().wait();
  room = room_for(192) - weights;
  EXPECT_EQ(details_of(other, "b").context_tokens, 192);
}

TEST_F(ModelHostTest, a_folder_holds_safetensors) {
  const std::filesystem::path folder = file_.parent_path();
  EngineHost h({{"a", file_, {}}, {"b", folder, {}}, {"c", folder / "config.json", {}}}, HostOptions(),
               [this](const auto& path, const LoadOptions& load) { return this->load(path, load); });
  std::string formats;
  for (const ModelCard& card : h.models()) formats += h.details(card).format + ";";
  EXPECT_EQ(formats, "gguf;safetensors;safetensors;");
}

}  // namespace
}  // namespace quern
