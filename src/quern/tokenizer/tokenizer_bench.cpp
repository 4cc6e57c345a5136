// SPDX-License-Identifier: Apache-2.0
// MB/s of encoding, time to load, time of a token that is decoded. Vocabularies: tests/data/tokenizers, or the files
// named in QUERN_BENCH_TOKENIZERS (paths of tokenizer.json and .gguf files, separated by colons).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "quern/tokenizer/tokenizer.h"

namespace quern {
namespace {

Result<std::unique_ptr<Tokenizer>> load(const std::filesystem::path& path) {
  if (path.extension() == ".json") return Tokenizer::from_json(path, std::nullopt);
  if (path.extension() == ".tiktoken") return Tokenizer::from_tiktoken(path, "o200k_harmony");
  QUERN_TRY(const gguf::File file, gguf::File::open(path));
  return Tokenizer::from_gguf(file);
}

/// Text of several kinds, the same each time.
std::string sample(size_t bytes) {
  constexpr const char* kLines[] = {
      "The quick brown fox jumps over the lazy dog, and nobody minds at all.\n",
      "    for (int i = 0; i < 1024; ++i) { sum += values[i] * weights[i]; }\n",
      "In 1969, 3.14159 and 2,718 were numbers; so is 100000.\n",
      "Größere Äpfel fallen früher, déjà vu à la carte.\n",
      "\u4e2d\u6587\u53e5\u5b50\u6ca1\u6709\u7a7a\u683c\uff0c\u4f46\u6709\u6807\u70b9\u3002\n",
  };
  std::string text;
  for (size_t i = 0; text.size() < bytes; ++i) text += kLines[i * 7 % 5];
  return text;
}

void load_file(benchmark::State& state, const std::string& path) {
  for (auto _ : state) {
    auto tokenizer = load(path);
    if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
    benchmark::DoNotOptimize(tokenizer);
  }
}

void encode(benchmark::State& state, const std::string& path, const std::string& text) {
  auto tokenizer = load(path);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  for (auto _ : state) benchmark::DoNotOptimize((*tokenizer)->encode(text, {}));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

/// An answer as it comes: one id at a time.
void stream(benchmark::State& state, const std::string& path) {
  auto tokenizer = load(path);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  const std::vector<TokenId> ids = (*tokenizer)->encode(sample(1 << 16), {});
  StreamDecoder decoder(**tokenizer);
  size_t next = 0;
  for (auto _ : state) {
    const TokenId id = ids[next++ % ids.size()];
    benchmark::DoNotOptimize((*tokenizer)->is_end(id));
    benchmark::DoNotOptimize(decoder.push(id));
  }
}

/// Registered before main runs: the list of files comes from the environment.
const bool registered = [] {
  const char* given = std::getenv("QUERN_BENCH_TOKENIZERS");
  std::string paths = given != nullptr ? given : "tests/data/tokenizers/byte_bpe.json";
  for (size_t at = 0; at <= paths.size();) {
    const size_t end = std::min(paths.find(':', at), paths.size());
    const std::string path = paths.substr(at, end - at);
    const auto folder = std::filesystem::path(path).parent_path().filename().string();
    const std::string name = (folder.empty() ? "" : folder + "/") + std::filesystem::path(path).filename().string();
    benchmark::RegisterBenchmark(("load/" + name).c_str(), load_file, path);
    benchmark::RegisterBenchmark(("mixed/" + name).c_str(), encode, path, sample(1 << 20));
    benchmark::RegisterBenchmark(("run of a/" + name).c_str(), encode, path, std::string(1 << 20, 'a'));
    benchmark::RegisterBenchmark(("run of blanks/" + name).c_str(), encode, path, std::string(1 << 20, ' '));
    benchmark::RegisterBenchmark(("stream/" + name).c_str(), stream, path);
    at = end + 1;
  }
  return true;
}();

}  // namespace
}  // namespace quern
