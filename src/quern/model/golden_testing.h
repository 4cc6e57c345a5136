// SPDX-License-Identifier: Apache-2.0
// For tests only: models with the logits that a reference implementation computes for them. They lie in
// tests/data/models (a few) and, where it is there, in the folder that QUERN_SHARED names or ../shared beside the
// sources (all).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "quern/base/json.h"
#include "quern/io/mapped_file.h"
#include "quern/kernels/isa.h"
#include "quern/model/architecture.h"
#include "quern/model/testing.h"

namespace quern::testing {

/// An array of a NumPy file, as floats.
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::vector<int32_t> integers() const { return {values.begin(), values.end()}; }
};

inline NpyArray parse_npy(std::string_view bytes) {
  NpyArray array;
  const size_t header = 10, length = static_cast<uint8_t>(bytes[8]) | static_cast<uint8_t>(bytes[9]) << 8;
  const std::string_view text = bytes.substr(header, length);
  std::string_view sizes = text.substr(text.find('(') + 1);
  sizes = sizes.substr(0, sizes.find(')'));
  int64_t n = 1;
  while (sizes.find_first_of("0123456789") != sizes.npos) {
    sizes.remove_prefix(sizes.find_first_of("0123456789"));
    array.shape.push_back(std::strtoll(sizes.data(), nullptr, 10));
    n *= array.shape.back();
    sizes.remove_prefix(std::min(sizes.find_first_not_of("0123456789"), sizes.size()));
  }
  array.values.resize(n);
  const char* data = bytes.data() + header + length;
  for (int64_t i = 0; i < n; ++i) {
    if (text.find("<i4") != text.npos) {
      int32_t v;
      std::memcpy(&v, data + i * 4, 4);
      array.values[i] = static_cast<float>(v);
    } else {
      std::memcpy(&array.values[i], data + i * 4, 4);
    }
  }
  return array;
}

/// An .npz file: a zip of .npy files, stored without compression. Read by its central directory.
inline std::map<std::string, NpyArray> read_npz(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const auto number = [&](size_t at, int size) {
    uint64_t v = 0;
    for (int i = 0; i < size; ++i) v |= uint64_t{static_cast<uint8_t>(bytes.at(at + i))} << 8 * i;
    return v;
  };
  std::map<std::string, NpyArray> arrays;
  const size_t end = bytes.rfind("PK\5\6");
  size_t at = number(end + 16, 4);
  for (uint64_t i = number(end + 10, 2); i > 0; --i) {
    const uint64_t size = number(at + 24, 4), name = number(at + 28, 2), extra = number(at + 30, 2),
                   comment = number(at + 32, 2);
    const size_t local = number(at + 42, 4);
    const size_t data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
    std::string key = bytes.substr(at + 46, name);
    key.resize(key.size() - 4);  // .npy
    arrays[key] = parse_npy(std::string_view(bytes).substr(data, size));
    at += 46 + name + extra + comment;
  }
  return arrays;
}

/// Where the golden model `name` lies; empty: nowhere.
inline std::filesystem::path golden_model(const std::string& name) {
  std::filesystem::path shared = std::filesystem::path(QUERN_SOURCE_DIR) / "../shared";
  for (const char* variable : {"QUERN_SHARED", "QUERN_SHARED_DATA"})
    if (const char* root = std::getenv(variable)) shared = root;
  for (const auto& root : {shared / "golden/models", std::filesystem::path(QUERN_SOURCE_DIR) / "tests/data/models"})
    if (std::filesystem::exists(root / name)) return root / name;
  return {};
}

/// |got - want| over |want - mean(want)| of each row; without `centred` over |want|, as peer.json has it.
inline std::vector<double> row_errors(std::span<const float> got, std::span<const float> want, int64_t width,
                                      bool centred = true) {
  std::vector<double> errors;
  for (size_t row = 0; row * width < want.size(); ++row) {
    double mean = 0, difference = 0, scale = 0;
    for (int64_t i = 0; i < width && centred; ++i) mean += want[row * width + i] / static_cast<double>(width);
    for (int64_t i = 0; i < width; ++i) {
      const double w = want[row * width + i];
      difference += std::pow(got[row * width + i] - w, 2);
      scale += std::pow(w - mean, 2);
    }
    errors.push_back(std::sqrt(difference / std::max(scale, 1e-18)));
  }
  return errors;
}

/// Not a number counts as the worst.
inline double worst(const std::vector<double>& errors) {
  double worst = 0;
  for (double e : errors) worst = e <= worst ? worst : e;
  return worst;
}

inline double median(std::vector<double> errors) {
  std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
  return errors[errors.size() / 2];
}

struct LoadedGolden {
  std::unique_ptr<ModelSource> source;
  std::unique_ptr<Model> model;
};

inline Result<LoadedGolden> load_golden(const std::filesystem::path& path, Pool& pool) {
  LoadedGolden out;
  QUERN_TRY(out.source, ModelSource::open(path));
  QUERN_TRY(out.model, load_model(*out.source, {kernel_table(best_isa()), pool, no_progress}));
  return out;
}

/// Two correct programs differ by at most 2e-5 in the worst row in float32 (other orders of the same sums); a wrong
/// constant or index moves it by 1e-2 and more.
constexpr double kFloatTolerance = 1e-4;

/// Every prompt length and every form of the model gives the reference's logits; the reference's greedy ids follow.
inline void expect_golden_form(const std::filesystem::path& form, const std::map<std::string, NpyArray>& want,
                               bool continuation) {
  SCOPED_TRACE(form.string());
  Pool pool(2);
  auto loaded = load_golden(form, pool);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Model& model = *loaded->model;
  std::vector<int32_t> tokens = want.at("tokens").integers();
  const int64_t n_vocab = want.at("logits").shape[1];
  ASSERT_EQ(model.info().n_vocab, n_vocab);
  for (int64_t batch : {512, 1, 7})
    EXPECT_LT(worst(row_errors(all_logits(model, pool, tokens, batch), want.at("logits").values, n_vocab)),
              kFloatTolerance)
        << "batch " << batch;
  if (!continuation) return;
  const size_t prompt = tokens.size();
  for (int32_t id : want.at("greedy").integers()) tokens.push_back(id);
  const std::vector<float> logits = all_logits(model, pool, tokens, 512);
  EXPECT_LT(worst(row_errors(std::span(logits).subspan(prompt * n_vocab), want.at("logits_decode").values, n_vocab)),
            kFloatTolerance);
}

/// A folder with config.legacy.json in place of config.json.
inline std::filesystem::path legacy_folder(const std::filesystem::path& hf, const std::string& name) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / ("quern-legacy-" + name);
  std::filesystem::create_directories(folder);
  const auto overwrite = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(hf / "config.legacy.json", folder / "config.json", overwrite);
  std::filesystem::copy_file(hf / "model.safetensors", folder / "model.safetensors", overwrite);
  return folder;
}

inline void expect_golden(const std::string& name) {
  const auto folder = golden_model(name);
  if (folder.empty()) GTEST_SKIP() << "no golden model " << name;
  const auto official = read_npz(folder / "expected.npz");
  const bool has_peer = std::filesystem::exists(folder / "expected.peer.npz");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    // A GGUF file that cannot carry a feature of its family is read as everyone reads it.
    if (entry.path().extension() == ".gguf")
      expect_golden_form(entry.path(), has_peer ? read_npz(folder / "expected.peer.npz") : official, !has_peer);
  }
  const auto hf = folder / "hf";
  if (!std::filesystem::exists(hf / "model.safetensors")) return;
  expect_golden_form(hf, official, true);
  if (std::filesystem::exists(hf / "config.legacy.json")) {
    const auto legacy = legacy_folder(hf, name);
    expect_golden_form(legacy, official, false);
    std::filesystem::remove_all(legacy);
  }
}

/// Quantized files of a case: 8-bit activations cost at most 1.3 times what they cost llama.cpp on the same file, in
/// the median row (peer.json).
inline void expect_golden_quantized(const std::string& name) {
  const auto folder = golden_model(name);
  if (folder.empty()) GTEST_SKIP() << "no golden model " << name;
  const auto peer_text = read_text_file(folder.parent_path() / "peer.json");
  ASSERT_TRUE(peer_text) << peer_text.error().message;
  const auto peer = Json::parse(*peer_text);
  ASSERT_TRUE(peer) << peer.error().message;
  Pool pool(2);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().string());
    const std::string file = entry.path().filename().string();
    const Json* fact = peer->find(fmt::format("{}/{}", name, file));
    ASSERT_TRUE(fact) << "no figure in peer.json";
    const auto want = read_npz(folder / fmt::format("expected.{}.npz", file.substr(6, file.size() - 11)));
    auto loaded = load_golden(entry.path(), pool);
    ASSERT_TRUE(loaded) << loaded.error().message;
    for (int64_t batch : {512, 1}) {
      const auto logits = all_logits(*loaded->model, pool, want.at("tokens").integers(), batch);
      const double error = median(row_errors(logits, want.at("logits").values, want.at("logits").shape[1], false));
      EXPECT_LE(error, 1.3 * fact->find("rel_l2_median_row")->number()) << "batch " << batch;
      EXPECT_GT(error, 0);
    }
  }
}

}  // namespace quern::testing
