// SPDX-License-Identifier: Apache-2.0
// Files made by llama.cpp's converter, against the folders they were made from (read here by a few lines of their own).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "quern/base/json.h"
#include "quern/gguf/file.h"
#include "quern/io/mapped_file.h"

namespace quern::gguf {
namespace {

namespace fs = std::filesystem;

fs::path golden() {
  for (const char* variable : {"QUERN_SHARED_DATA", "QUERN_SHARED"})
    if (const char* given = std::getenv(variable)) return fs::path(given) / "golden/models";
  return fs::path(QUERN_SOURCE_DIR) / "../shared/golden/models";
}

/// The float32 tensors of a model.safetensors file.
class Published {
 public:
  explicit Published(const fs::path& path) : file_(*MappedFile::open(path)) {
    std::memcpy(&header_bytes_, file_.bytes().data(), 8);
    header_ = *Json::parse({reinterpret_cast<const char*>(file_.bytes().data()) + 8, header_bytes_});
  }
  std::vector<float> tensor(std::string_view name) const {
    const Json* entry = header_.find(name);
    if (!entry || entry->find("dtype")->string() != "F32") return {};
    const auto& offsets = entry->find("data_offsets")->array();
    std::vector<float> out((offsets[1].integer() - offsets[0].integer()) / 4);
    std::memcpy(out.data(), file_.bytes().data() + 8 + header_bytes_ + offsets[0].integer(), 4 * out.size());
    return out;
  }

 private:
  MappedFile file_;
  uint64_t header_bytes_ = 0;
  Json header_;
};

std::vector<float> values(const TensorView& view) {
  std::vector<float> out(view.shape.elements());
  for (int64_t r = 0; r < view.shape.rows(); ++r) view.decode_row(r, out.data() + r * view.shape.columns());
  return out;
}

/// The converter turns the rows of each head from halves to pairs: row 2i + s of a head was row s * d/2 + i.
std::vector<float> paired(const std::vector<float>& in, int64_t n_head, int64_t columns) {
  const int64_t d = static_cast<int64_t>(in.size()) / columns / n_head;
  std::vector<float> out(in.size());
  for (int64_t h = 0; h < n_head; ++h)
    for (int64_t i = 0; i < d / 2; ++i)
      for (int64_t s = 0; s < 2; ++s)
        std::memcpy(out.data() + (h * d + 2 * i + s) * columns, in.data() + (h * d + s * d / 2 + i) * columns,
                    4 * columns);
  return out;
}

// All weights are exact in bfloat16, so F32 and BF16 hold the same numbers. In binary16 only the smallest are rounded,
// to multiples of 2^-24.
TEST(GgufGolden, llama_holds_the_numbers_it_was_made_from) {
  const fs::path folder = golden() / "llama";
  if (!fs::exists(folder)) GTEST_SKIP() << "no golden models";
  const Published published(folder / "hf/model.safetensors");
  for (const char* form : {"model.f32.gguf", "model.bf16.gguf", "model.f16.gguf"}) {
    auto file = File::open(folder / form);
    ASSERT_TRUE(file) << file.error().message;
    const int64_t n_layer = *file->integer("llama.block_count"), width = *file->integer("llama.embedding_length");
    const int64_t n_head = *file->integer("llama.attention.head_count"),
                  n_kv_head = *file->integer("llama.attention.head_count_kv");
    const float rounding = std::string_view(form) == "model.f16.gguf" ? 0x1p-25f : 0.0f;
    size_t compared = 0;
    const auto same = [&](const std::string& name, const std::string& theirs, int64_t heads = 0) {
      const TensorView* view = file->find_tensor(name);
      ASSERT_NE(view, nullptr) << name;
      std::vector<float> expected = published.tensor(theirs);
      ASSERT_FALSE(expected.empty()) << theirs;
      if (heads) expected = paired(expected, heads, width);
      const std::vector<float> got = values(*view);
      ASSERT_EQ(got.size(), expected.size()) << form << ": " << name;
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LE(std::abs(got[i] - expected[i]), rounding) << form << ": " << name;
      ++compared;
    };
    same("token_embd.weight", "model.embed_tokens.weight");
    same("output_norm.weight", "model.norm.weight");
    same("output.weight", "lm_head.weight");
    for (int64_t layer = 0; layer < n_layer; ++layer) {
      const std::string blk = fmt::format("blk.{}.", layer), theirs = fmt::format("model.layers.{}.", layer);
      same(blk + "attn_norm.weight", theirs + "input_layernorm.weight");
      same(blk + "ffn_norm.weight", theirs + "post_attention_layernorm.weight");
      same(blk + "attn_q.weight", theirs + "self_attn.q_proj.weight", n_head);
      same(blk + "attn_k.weight", theirs + "self_attn.k_proj.weight", n_kv_head);
      same(blk + "attn_v.weight", theirs + "self_attn.v_proj.weight");
      same(blk + "attn_output.weight", theirs + "self_attn.o_proj.weight");
      for (const char* part : {"gate", "up", "down"})
        same(blk + "ffn_" + part + ".weight", theirs + "mlp." + part + "_proj.weight");
    }
    EXPECT_EQ(compared, file->tensors().size());
  }
}

// Every family and every weight type that lies there opens.
TEST(GgufGolden, every_file_opens) {
  if (!fs::exists(golden())) GTEST_SKIP() << "no golden models";
  int opened = 0;
  for (const auto& entry : fs::recursive_directory_iterator(golden())) {
    if (entry.path().extension() != ".gguf") continue;
    auto file = File::open(entry.path());
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_TRUE(file->string("general.architecture")) << entry.path();
    EXPECT_EQ(file->file_bytes(), static_cast<int64_t>(entry.file_size()));
    ++opened;
  }
  EXPECT_GT(opened, 30);
}

}  // namespace
}  // namespace quern::gguf
