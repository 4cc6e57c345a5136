// SPDX-License-Identifier: Apache-2.0
// Ids and streamed text equal those of the tokenizers' own libraries, on a thousand strings for each of eleven
// vocabularies (where that data is there; tests/data/tokenizers has a small share of it for every day).
#include <gtest/gtest.h>

#include <ostream>

#include "quern/tokenizer/tokenizer_cases.h"
#include "quern/tokenizer/tokenizer_json.h"

namespace quern {
namespace {

using Loaded = std::unique_ptr<Tokenizer>;

std::filesystem::path demo_model() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path base =
      cache != nullptr ? std::filesystem::path(cache) : std::filesystem::path(home != nullptr ? home : "") / ".cache";
  return base / "quern/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

Loaded load_gguf(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return nullptr;
  auto file = gguf::File::open(path);
  EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
  if (!file) return nullptr;
  auto tokenizer = Tokenizer::from_gguf(*file);
  EXPECT_TRUE(tokenizer.has_value()) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? *std::move(tokenizer) : nullptr;
}

Loaded checked(Result<Loaded> tokenizer) {
  EXPECT_TRUE(tokenizer.has_value()) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? *std::move(tokenizer) : nullptr;
}

Loaded load(const std::string& name) {
  const auto data = shared_folder() / "data/tokenizers";
  if (name == "smollm2") return load_gguf(demo_model());
  if (name == "o200k_harmony") {
    const auto text = read_maybe_packed(data / "o200k_base/o200k_base.tiktoken.xz");
    return text ? checked(tokenizer_from_tiktoken_text(*text, name)) : nullptr;
  }
  if (const auto text = read_maybe_packed(data / name / "tokenizer.json.xz"))
    return checked(tokenizer_from_json_text(*text, nullptr));
  return load_gguf(data / "gguf-vocab" / ("ggml-vocab-" + name + ".gguf"));
}

class Golden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto folder = shared_folder() / "golden/tokenizers";
    const auto rows = read_maybe_packed(folder / (std::string(GetParam()) + ".jsonl.xz"));
    const auto decode = read_maybe_packed(folder / (std::string(GetParam()) + ".decode.jsonl.xz"));
    if (!rows || !decode) GTEST_SKIP() << "no golden data under " << folder;
    rows_ = json_lines(*rows);
    decode_ = json_lines(*decode);
    tokenizer_ = load(GetParam());
    if (!tokenizer_) GTEST_SKIP() << "its vocabulary is not here";
    ASSERT_GT(rows_.size(), 900u);
    ASSERT_GT(decode_.size(), 200u);
  }

  std::vector<Json> rows_, decode_;
  Loaded tokenizer_;
};

TEST_P(Golden, plain_text_gives_the_reference_ids) {
  int shown = 0;
  for (const Json& row : rows_) {
    const auto got = tokenizer_->encode(row.find("text")->string(), {});
    if (got != ids_in(row, "ids") && shown++ < 5) {
      EXPECT_EQ(got, ids_in(row, "ids")) << row.find("tag")->string() << ": " << row.find("text")->string();
    }
  }
  EXPECT_EQ(shown, 0) << "rows differ";
}

TEST_P(Golden, special_tokens_are_recognised_when_asked) {
  int shown = 0;
  for (const Json& row : rows_) {
    const auto want = ids_in(row, row.find("ids_special") != nullptr ? "ids_special" : "ids");
    const auto got = tokenizer_->encode(row.find("text")->string(), {.parse_special = true});
    if (got != want && shown++ < 5) {
      EXPECT_EQ(got, want) << row.find("text")->string();
    }
  }
  EXPECT_EQ(shown, 0) << "rows differ";
}

TEST_P(Golden, streamed_pieces_never_cut_a_character) {
  for (const Json& row : decode_) {
    StreamDecoder decoder(*tokenizer_);
    Json::Array pieces;
    for (const TokenId id : ids_in(row, "ids")) pieces.emplace_back(decoder.push(id));
    EXPECT_EQ(Json(pieces), *row.find("pieces")) << row.dump().substr(0, 200);
    EXPECT_EQ(decoder.flush(), row.find("flush")->string()) << row.dump().substr(0, 200);
    const Json* whole = row.find("text_from_start");
    EXPECT_EQ(tokenizer_->decode_from_start(ids_in(row, "ids")),
              (whole != nullptr ? whole : row.find("text"))->string());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         testing::Values("qwen3", "deepseek_v3", "llama3_1", "o200k_harmony", "smollm2", "gpt-2",
                                         "starcoder", "deepseek-coder", "deepseek-llm", "llama-spm", "phi-3"));

}  // namespace
}  // namespace quern
