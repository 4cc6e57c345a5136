// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/moe_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "quern/model/golden_testing.h"
#include "quern/model/tiny_model.h"
#include "quern/safetensors/testing.h"

namespace quern::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Architecture& architecture(std::string_view name) {
  return **std::find_if(arch_table, arch_table + arch_table_size, [&](const auto* a) { return a->name == name; });
}

/// A GGUF file in memory, loaded, or the error that loading gives.
struct Loaded {
  std::vector<std::byte> bytes;
  std::unique_ptr<ModelSource> source;
  std::unique_ptr<Model> model;
  std::string error;

  explicit Loaded(const gguf::Writer& writer, Weights weights = Weights::packed) : bytes(*writer.bytes()) {
    source = *ModelSource::from(*gguf::File::parse(bytes));
    auto loaded = load_model(*source, {kernel_table(best_isa()), pool(), no_progress, weights});
    if (loaded)
      model = *std::move(loaded);
    else
      error = loaded.error().message;
  }

  static Pool& pool() {
    static Pool pool(2);
    return pool;
  }
  std::vector<float> logits() const {
    return all_logits(*model, pool(), random_tokens(40, model->info().n_vocab, 4), 16);
  }
};

/// The tiny model of a family with its tensors changed.
gguf::Writer with_tensors(std::string_view family, TinyWeights weights,
                          const std::function<void(gguf::Writer&, const gguf::Tensor&)>& add) {
  const auto bytes = *tiny_writer(architecture(family), 1, weights)->bytes();
  const auto file = *gguf::File::parse(bytes);
  gguf::Writer writer;
  for (const gguf::Entry& entry : file.metadata()) writer.copy(entry);
  for (const gguf::Tensor& tensor : file.tensors()) add(writer, tensor);
  return writer;
}

void copy(gguf::Writer& writer, const gguf::Tensor& tensor) {
  writer.add(tensor.name, tensor.view.shape, *tensor.view.type,
             std::vector<std::byte>(tensor.view.data.begin(), tensor.view.data.end()));
}

/// The rows of expert after expert: those of `a`, then those of `b`.
std::vector<std::byte> fused(const TensorView& a, const TensorView& b) {
  const int64_t n_expert = a.shape.ne[2], bytes = std::ssize(a.data) / n_expert;
  std::vector<std::byte> out;
  for (int64_t e = 0; e < n_expert; ++e)
    for (const TensorView* half : {&a, &b}) {
      const auto rows = half->data.subspan(e * bytes, bytes);
      out.insert(out.end(), rows.begin(), rows.end());
    }
  return out;
}

TEST(MoeBlock, gate_and_up_may_share_a_tensor) {
  for (TinyWeights weights : {TinyWeights::f32, TinyWeights::quantized}) {
    const Loaded apart(*tiny_writer(architecture("qwen3moe"), 1, weights));
    const Loaded together(with_tensors("qwen3moe", weights, [&](gguf::Writer& writer, const gguf::Tensor& tensor) {
      const size_t at = tensor.name.find("ffn_gate_exps");
      if (tensor.name.find("ffn_up_exps") != tensor.name.npos) return;
      if (at == tensor.name.npos) return copy(writer, tensor);
      const TensorView& up = *apart.source->gguf()->find_tensor(std::string(tensor.name).replace(at, 8, "ffn_up"));
      Shape shape = tensor.view.shape;
      shape.ne[1] *= 2;
      writer.add(std::string(tensor.name).replace(at, 8, "ffn_gate_up"), shape, *tensor.view.type,
                 fused(tensor.view, up));
    }));
    ASSERT_TRUE(apart.model) << apart.error;
    ASSERT_TRUE(together.model) << together.error;
    EXPECT_EQ(together.model->info().parameters, apart.model->info().parameters);
    EXPECT_EQ(together.model->info().active_parameters, apart.model->info().active_parameters);
    EXPECT_EQ(together.model->info().step_bytes, apart.model->info().step_bytes);
    EXPECT_EQ(together.logits(), apart.logits());
  }
}

/// A published folder holds a tensor for each expert, or one of all for gate and up and one for down.
TEST(MoeBlock, folders_may_stack_the_experts) {
  const fs::path golden = golden_model("qwen3_5_moe");
  ASSERT_FALSE(golden.empty());
  const auto apart = safetensors::Folder::open(golden / "hf");
  ASSERT_TRUE(apart) << apart.error().message;
  std::string header = "{";
  std::vector<std::byte> data;
  const auto add = [&](const std::string& name, const std::string& shape, std::span<const std::byte> bytes) {
    header += fmt::format(R"({}"{}": {{"dtype": "BF16", "shape": [{}], "data_offsets": [{}, {}]}})",
                          header == "{" ? "" : ", ", name, shape, data.size(), data.size() + bytes.size());
    data.insert(data.end(), bytes.begin(), bytes.end());
  };
  for (const safetensors::Tensor& tensor : apart->tensors()) {
    const std::string name(tensor.name);
    const size_t at = name.find("experts.");
    if (at == name.npos) {
      ASSERT_EQ(tensor.dtype, "BF16") << name;
      std::vector<int64_t> shape(tensor.view.shape.ne.begin(), tensor.view.shape.ne.begin() + tensor.view.shape.rank);
      std::ranges::reverse(shape);
      add(name, fmt::format("{}", fmt::join(shape, ", ")), tensor.view.data);
    } else if (name.find("experts.0.down_proj") != name.npos) {
      std::vector<std::byte> downs, gate_ups;
      for (int e = 0; e < 7; ++e)
        for (const char* part : {"gate", "up", "down"}) {
          const auto& bytes =
              apart->find(fmt::format("{}experts.{}.{}_proj.weight", name.substr(0, at), e, part))->view.data;
          auto& out = part == std::string_view("down") ? downs : gate_ups;
          out.insert(out.end(), bytes.begin(), bytes.end());
        }
      add(name.substr(0, at) + "experts.down_proj", "7, 64, 20", downs);
      add(name.substr(0, at) + "experts.gate_up_proj", "7, 40, 64", gate_ups);
    }
  }
  const fs::path folder = fs::path(::testing::TempDir()) / "quern-stacked-experts";
  fs::create_directories(folder);
  fs::copy_file(golden / "hf/config.json", folder / "config.json", fs::copy_options::overwrite_existing);
  const auto bytes = safetensors::testing::file_of(header + "}", data);
  std::ofstream(folder / "model.safetensors", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  expect_golden_form(folder, read_npz(golden / "expected.npz"), false);
  fs::remove_all(folder);
}

TEST(MoeBlock, a_token_reads_the_experts_it_uses) {
  for (TinyWeights weights : {TinyWeights::f32, TinyWeights::quantized})
    for (std::string_view family : {"qwen3moe", "qwen35moe"}) {
      const Loaded tiny(*tiny_writer(architecture(family), 1, weights));
      ASSERT_TRUE(tiny.model) << tiny.error;
      int64_t idle = 0;
      for (const gguf::Tensor& tensor : tiny.source->gguf()->tensors())
        if (tensor.name.find("_exps") != std::string::npos)
          idle += tensor.view.shape.elements() / tensor.view.shape.ne[2] * (tensor.view.shape.ne[2] - 3);
      const ModelInfo& info = tiny.model->info();
      EXPECT_GT(idle, info.parameters / 4);
      EXPECT_EQ(info.active_parameters, info.parameters - idle);
      // F32, or Q8_0 with 8.5 bits a weight.
      EXPECT_NEAR(static_cast<double>(info.weight_bytes - info.step_bytes),
                  idle * (weights == TinyWeights::f32 ? 4 : 1.0625), 1e-3 * idle);
    }
}

std::string error_with(std::string_view family, std::string_view key, uint32_t value) {
  gguf::Writer writer = *tiny_writer(architecture(family));
  writer.set(fmt::format("{}.{}", family, key), value);
  return Loaded(writer).error;
}

TEST(MoeBlock, refuses_numbers_no_model_has) {
  for (const std::string family : {"qwen3moe", "qwen35moe"})
    for (const char* key : {"expert_count", "expert_used_count", "expert_feed_forward_length"})
      for (uint32_t value : {0u, 1u << 24, 1u << 31, 0xffffffffu})
        EXPECT_THAT(error_with(family, key, value),
                    AllOf(HasSubstr(family + "." + key + ": expected an integer of 1 to"), HasSubstr("found")));
  EXPECT_EQ(error_with("qwen3moe", "expert_used_count", 10),
            "qwen3moe.expert_used_count: expected an integer of 1 to 9, found 10");
  EXPECT_EQ(error_with("qwen3moe", "expert_count", 8), "blk.0.ffn_gate_inp.weight: shape [64, 9], expected [64, 8]");
  EXPECT_EQ(error_with("qwen3moe", "expert_feed_forward_length", 31),
            "blk.0.ffn_gate_exps.weight: shape [64, 32, 9], expected [64, 31, 9]");
  EXPECT_EQ(error_with("qwen35moe", "expert_shared_feed_forward_length", 0),
            "qwen35moe.expert_shared_feed_forward_length: expected an integer of 1 to 16777216, found 0");
}

TEST(MoeBlock, names_the_missing_tensor) {
  for (const char* name : {"ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_shexp",
                           "ffn_up_shexp", "ffn_down_shexp", "ffn_gate_inp_shexp"}) {
    const std::string missing = fmt::format("blk.1.{}.weight", name);
    const Loaded tiny(with_tensors("qwen35moe", TinyWeights::f32,
                                   [&](gguf::Writer& writer, const auto& tensor) {
                                     if (tensor.name != missing) copy(writer, tensor);
                                   }),
                      Weights::outline);
    EXPECT_THAT(tiny.error, HasSubstr(missing + ": expected a tensor of shape [")) << name;
  }
}

/// Their inputs are rounded, or they are not.
TEST(MoeBlock, gate_and_up_are_both_blocks_or_both_floats) {
  const Loaded tiny(with_tensors("qwen3moe", TinyWeights::quantized, [](gguf::Writer& writer, const auto& tensor) {
    if (tensor.name != "blk.2.ffn_up_exps.weight") return copy(writer, tensor);
    writer.add(tensor.name, tensor.view.shape, quant_f32, std::vector<float>(tensor.view.shape.elements()));
  }));
  EXPECT_EQ(tiny.error,
            "blk.2.ffn_up_exps.weight: expected a type of blocks like blk.2.ffn_gate_exps.weight (Q8_0), found F32");
}

/// A folder of a mixture whose config.json is changed; the error that loading gives.
std::string error_of_folder(std::string_view key, const Json& value) {
  const fs::path golden = golden_model("qwen3moe-nonorm");
  const fs::path folder = fs::path(::testing::TempDir()) / "quern-moe-config";
  fs::create_directories(folder);
  fs::copy_file(golden / "hf/model.safetensors", folder / "model.safetensors", fs::copy_options::overwrite_existing);
  Json config = *Json::parse(*read_text_file(golden / "hf/config.json"));
  config.set(key, value);
  std::ofstream(folder / "config.json") << config.dump();
  const auto source = ModelSource::open(folder);
  if (!source) return source.error().message;
  auto model = load_model(**source, {kernel_table(best_isa()), Loaded::pool(), no_progress});
  fs::remove_all(folder);
  return model ? "" : model.error().message;
}

TEST(MoeBlock, folders_may_keep_layers_dense) {
  ASSERT_FALSE(golden_model("qwen3moe-nonorm").empty());
  EXPECT_EQ(error_of_folder("mlp_only_layers", Json::Array{}), "");
  EXPECT_EQ(error_of_folder("mlp_only_layers", Json::Array{5}), "");
  EXPECT_EQ(error_of_folder("mlp_only_layers", Json::Array{1}),
            "model.layers.1.mlp.gate_proj.weight: expected a tensor of shape [64, 112], found none");
  EXPECT_EQ(error_of_folder("decoder_sparse_step", 2),
            "model.layers.0.mlp.gate_proj.weight: expected a tensor of shape [64, 112], found none");
  EXPECT_THAT(error_of_folder("mlp_only_layers", 1), HasSubstr("mlp_only_layers: expected a list, found 1"));
  EXPECT_THAT(error_of_folder("decoder_sparse_step", 0), HasSubstr("decoder_sparse_step: expected an integer of 1"));
  EXPECT_THAT(error_of_folder("norm_topk_prob", "yes"), HasSubstr("norm_topk_prob: expected true or false"));
  EXPECT_EQ(error_of_folder("num_local_experts", 7), "model.layers.0.mlp.gate.weight: shape [64, 6], expected [64, 7]");
  // The published name of the key comes first.
  EXPECT_EQ(error_of_folder("num_experts", 5), "model.layers.0.mlp.gate.weight: shape [64, 6], expected [64, 5]");
  EXPECT_THAT(error_of_folder("moe_intermediate_size", 23),
              HasSubstr("model.layers.0.mlp.experts.0.gate_proj.weight: shape [64, 24], expected [64, 23]"));
}

}  // namespace
}  // namespace quern::testing
