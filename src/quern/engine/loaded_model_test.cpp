// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/loaded_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "quern/engine/generate.h"
#include "quern/gguf/writer.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

const fs::path kTiny = fs::path(QUERN_SOURCE_DIR) / "tests/data/models/quant-llama/model.Q4_0.gguf";

std::unique_ptr<LoadedModel> load(const fs::path& path, int threads = 1) {
  LoadOptions options;
  options.threads = threads;
  auto loaded = LoadedModel::load(path, options, [](int64_t, int64_t) { return true; });
  EXPECT_TRUE(loaded) << loaded.error().message;
  return loaded ? *std::move(loaded) : nullptr;
}

/// The tiny model with another value of one key.
class Patched {
 public:
  Patched(std::string_view key, std::string_view value)
      : path_(fs::temp_directory_path() / fmt::format("quern_patched_{}.gguf", ::getpid())) {
    const gguf::File file = *gguf::File::open(kTiny);
    gguf::Writer writer;
    for (const gguf::Entry& entry : file.metadata()) writer.copy(entry);
    writer.set(key, value);
    for (const gguf::Tensor& t : file.tensors())
      writer.add(t.name, t.view.shape, *t.view.type, std::vector<std::byte>(t.view.data.begin(), t.view.data.end()));
    EXPECT_TRUE(writer.write(path_));
  }
  ~Patched() { fs::remove(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

struct Told {
  std::string text;
  int64_t read = 0;
};

Generated generate_with(LoadedModel& model, const GenerateOptions& options, Told& told, bool cancelled = false) {
  Session session = model.session();
  const std::vector<TokenId> prompt = model.tokenizer().encode("the prompt of a test", {});
  const std::atomic<bool> cancel = cancelled;
  auto out = generate(
      session, model.tokenizer(), prompt, options,
      {[&](std::string_view text) { told.text += text; }, [&](int64_t done, int64_t) { told.read = done; }}, cancel);
  EXPECT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->prompt_tokens, static_cast<int64_t>(prompt.size()));
  return *std::move(out);
}

GenerateOptions greedy(int64_t max_tokens) {
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = max_tokens;
  options.ignore_end = true;
  return options;
}

TEST(LoadedModel, a_model_without_a_template_gets_one_that_its_control_tokens_tell) {
  auto model = load(kTiny);
  ASSERT_TRUE(model);
  ASSERT_EQ(model->source().gguf()->find("tokenizer.chat_template"), nullptr);
  auto chat_template = model->chat_template();
  ASSERT_TRUE(chat_template);
  ASSERT_NE(*chat_template, nullptr);
  EXPECT_NE((*chat_template)->source().find("<|im_start|>"), std::string::npos);
}

TEST(LoadedModel, tokenizer_and_template_are_found_by_any_file_of_a_folder) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("quern_folder_{}", ::getpid());
  fs::copy(fs::path(QUERN_SOURCE_DIR) / "tests/data/models/qwen3-tied/hf", folder);
  std::ofstream(folder / "model.safetensors.index.json") << "{}";  // counts less than the whole file beside it
  std::ofstream(folder / "chat_template.jinja") << "a template";
  for (const char* name : {"", "config.json", "model.safetensors", "model.safetensors.index.json"}) {
    const auto tokenizer = load_tokenizer(folder / name);
    EXPECT_TRUE(tokenizer) << name << ": " << tokenizer.error().message;
    const auto text = load_template_source(folder / name);
    ASSERT_TRUE(text && *text) << name << ": " << text.error().message;
    EXPECT_EQ((*text)->text, "a template") << name;
  }
  EXPECT_TRUE(load_tokenizer(folder / "tokenizer.json"));
  fs::remove_all(folder);
}

TEST(LoadedModel, a_template_that_does_not_compile_stops_only_who_needs_it) {
  const Patched patched("tokenizer.chat_template", "{% fxr m in messages %}");
  auto model = load(patched.path());
  ASSERT_TRUE(model);
  auto chat_template = model->chat_template();
  ASSERT_FALSE(chat_template);
  EXPECT_NE(chat_template.error().message.find("chat template"), std::string::npos);
  Told told;
  EXPECT_EQ(generate_with(*model, greedy(3), told).ids.size(), 3u);
}

TEST(LoadedModel, loading_can_be_stopped) {
  auto loaded = LoadedModel::load(kTiny, {.threads = 1}, [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::cancelled);
}

TEST(LoadedModel, a_context_that_does_not_fit_is_refused_with_both_sizes) {
  auto loaded = LoadedModel::load(kTiny, {.threads = 1, .context = 1 << 30, .memory_budget = 64 << 20},
                                  [](int64_t, int64_t) { return true; });
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::out_of_memory);
}

TEST(Generate, ends_at_the_limit_and_tells_everything_once) {
  auto model = load(kTiny);
  ASSERT_TRUE(model);
  Told told;
  const Generated out = generate_with(*model, greedy(12), told);
  EXPECT_EQ(out.finish, FinishReason::length);
  EXPECT_EQ(out.ids.size(), 12u);
  EXPECT_EQ(out.decode_steps, 11);
  EXPECT_EQ(told.text, out.text);
  EXPECT_EQ(told.read, out.prompt_tokens);
}

TEST(Generate, a_seed_repeats_on_any_number_of_threads) {
  GenerateOptions options = greedy(30);
  options.sampling.temperature = 1.5f;
  std::vector<std::vector<TokenId>> answers;
  for (const auto& [seed, threads] : {std::pair{1, 1}, {1, 3}, {2, 1}}) {
    options.sampling.seed = seed;
    auto model = load(kTiny, threads);
    ASSERT_TRUE(model);
    Told told;
    answers.push_back(generate_with(*model, options, told).ids);
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
}

TEST(Generate, stops_before_a_stop_string_and_at_an_end_id) {
  auto model = load(kTiny);
  ASSERT_TRUE(model);
  Told told;
  const Generated whole = generate_with(*model, greedy(12), told);
  ASSERT_GT(whole.text.size(), 4u);
  GenerateOptions options = greedy(12);
  options.stops = {whole.text.substr(whole.text.size() - 2)};
  Told cut;
  const Generated stopped = generate_with(*model, options, cut);
  EXPECT_EQ(stopped.finish, FinishReason::stop);
  EXPECT_EQ(stopped.text, whole.text.substr(0, whole.text.find(options.stops[0])));

  options = greedy(12);
  options.ignore_end = false;
  options.end_ids = {whole.ids[5]};
  const Generated ended = generate_with(*model, options, cut);
  EXPECT_EQ(ended.finish, FinishReason::stop);
  EXPECT_EQ(ended.ids,
            std::vector<TokenId>(whole.ids.begin(), std::find(whole.ids.begin(), whole.ids.end(), whole.ids[5])));
}

TEST(Generate, a_cancel_keeps_what_there_is) {
  auto model = load(kTiny);
  ASSERT_TRUE(model);
  Told told;
  const Generated out = generate_with(*model, greedy(12), told, /*cancelled=*/true);
  EXPECT_EQ(out.finish, FinishReason::cancelled);
  EXPECT_TRUE(out.ids.empty());
}

}  // namespace
}  // namespace quern
