// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over its corpus in the ordinary build: `foo_fuzz_replay FOLDER...`. Every file whole and cut short
// at up to 64 places, each in memory of exactly its size, so that a sanitizer sees a read beyond it. Crashes are
// failures.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void run(const std::string& input, size_t size) {
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);
  if (size > 0) std::memcpy(exact.get(), input.data(), size);
  LLVMFuzzerTestOneInput(exact.get(), size);
}

void replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  run(input, input.size());
  const size_t cuts = std::min<size_t>(input.size(), 64);
  for (size_t i = 0; i < cuts; ++i) run(input, input.size() * i / cuts);
}

}  // namespace

int main(int argc, char** argv) {
  size_t replayed = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> files;
    std::error_code missing;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i], missing))
      if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& path : files) {
      std::printf("%s\n", path.c_str());
      std::fflush(stdout);  // the last name printed is the one that crashed
      replay(path);
    }
    replayed += files.size();
  }
  if (replayed == 0) std::fprintf(stderr, "%s: expected a folder with inputs, found none\n", argv[0]);
  return replayed > 0 ? 0 : 1;
}
