// SPDX-License-Identifier: Apache-2.0
#include "quern/model/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "quern/io/mapped_file.h"
#include "quern/kernels/isa.h"
#include "quern/model/architecture.h"
#include "quern/model/tiny_model.h"

namespace quern::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// The message of the error that loading gives; empty if it loads.
std::string error_of(const ModelSource& source, Weights weights = Weights::packed) {
  Pool pool(1);
  auto model = load_model(source, {kernel_table(best_isa()), pool, no_progress, weights});
  return model ? "" : model.error().message;
}

std::string error_of(Result<std::unique_ptr<ModelSource>> source) {
  return source ? error_of(**source) : source.error().message;
}

/// A small published folder whose config.json a test changes.
class FolderSource : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / fmt::format("quern-source-{}", test->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    const fs::path right = fs::path(QUERN_SOURCE_DIR) / "tests/data/models/qwen3-tied/hf";
    fs::copy_file(right / "model.safetensors", folder_ / "model.safetensors");
    config_ = *Json::parse(*read_text_file(right / "config.json"));
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string error_with(const Json& config) {
    std::ofstream(folder_ / "config.json") << config.dump();
    return error_of(ModelSource::open(folder_));
  }
  std::string error_with(std::string_view key, Json value) {
    Json config = config_;
    config.set(key, std::move(value));
    return error_with(config);
  }
  std::string error_without(std::string_view key) {
    Json config = config_;
    std::erase_if(config.object(), [&](const auto& member) { return member.first == key; });
    return error_with(config);
  }

  fs::path folder_;
  Json config_;
};

TEST_F(FolderSource, loads_as_published) { EXPECT_EQ(error_with(config_), ""); }

TEST_F(FolderSource, another_json_file_hears_what_is_expected) {
  std::ofstream(folder_ / "tokenizer.json") << "{}";
  EXPECT_THAT(error_of(ModelSource::open(folder_ / "tokenizer.json")),
              HasSubstr("expected a model folder, its config.json or one of its .safetensors files"));
}

TEST_F(FolderSource, names_key_expected_and_found) {
  EXPECT_EQ(error_with("num_hidden_layers", 0),
            "config.json: num_hidden_layers: expected an integer of 1 to 4096, found 0");
  EXPECT_EQ(error_with("hidden_size", "64"),
            "config.json: hidden_size: expected an integer of 1 to 1048576, found \"64\"");
  EXPECT_EQ(error_without("intermediate_size"),
            "config.json: intermediate_size: expected an integer of 1 to 16777216, found no such key");
  EXPECT_EQ(error_with("num_key_value_heads", 5),
            "config.json: num_key_value_heads: expected a divisor of the 6 heads, found 5");
}

TEST_F(FolderSource, refuses_numbers_no_model_has) {
  const Json huge(int64_t{1} << 31);
  for (const auto& [key, value] : std::vector<std::pair<std::string, Json>>{{"num_hidden_layers", 1'000'000'000},
                                                                            {"num_hidden_layers", Json::Array{2, 2}},
                                                                            {"hidden_size", -64},
                                                                            {"hidden_size", huge},
                                                                            {"num_attention_heads", 0},
                                                                            {"num_attention_heads", 7},
                                                                            {"num_key_value_heads", 1000},
                                                                            {"num_key_value_heads", 0},
                                                                            {"head_dim", 0},
                                                                            {"head_dim", 5000},
                                                                            {"head_dim", 15},
                                                                            {"vocab_size", huge},
                                                                            {"intermediate_size", 0},
                                                                            {"max_position_embeddings", 0},
                                                                            {"rms_norm_eps", "small"},
                                                                            {"rms_norm_eps", 0},
                                                                            {"rms_norm_eps", 1},
                                                                            {"tie_word_embeddings", "yes"},
                                                                            {"hidden_act", "gelu"},
                                                                            {"use_sliding_window", 3}}) {
    const std::string message = error_with(key, value);
    EXPECT_THAT(message, AllOf(HasSubstr("config.json: "), HasSubstr("expected"), HasSubstr("found")))
        << key << " = " << value.dump();
    EXPECT_EQ(message.find('\n'), message.npos);
  }
}

TEST_F(FolderSource, refuses_wrong_rope_settings) {
  for (
      const char* rope :
      {R"({"rope_theta": 0})", R"({"rope_theta": -5})", R"({"rope_theta": "1e4"})", R"({"rope_type": "spiral"})",
       R"({"rope_type": 3})", R"({"rope_type": "linear"})", R"({"rope_type": "linear", "factor": 0})",
       R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1, "original_max_position_embeddings": 48})",
       R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})",
       R"({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 0})",
       R"({"rope_type": "yarn", "factor": 4, "truncate": 1})", R"({"partial_rotary_factor": 2})"})
    EXPECT_THAT(error_with("rope_parameters", *Json::parse(rope)),
                AllOf(HasSubstr("config.json: "), HasSubstr("expected")))
        << rope;
}

TEST_F(FolderSource, tells_shapes_apart) {
  EXPECT_THAT(error_with("intermediate_size", 123),
              HasSubstr("model.layers.0.mlp.gate_proj.weight: shape [64, 124], expected [64, 123]"));
  EXPECT_THAT(error_with("vocab_size", 361),
              HasSubstr("model.embed_tokens.weight: shape [64, 360], expected [64, 361]"));
}

TEST_F(FolderSource, names_the_missing_tensor) {
  EXPECT_THAT(error_with("num_hidden_layers", 3),
              HasSubstr("model.layers.2.input_layernorm.weight: expected a tensor of shape [64], found none"));
  EXPECT_THAT(error_with("tie_word_embeddings", false), HasSubstr("lm_head.weight: expected a tensor"));
  EXPECT_THAT(error_with("attention_bias", true), HasSubstr("model.layers.0.self_attn.q_proj.bias: expected a tensor"));
}

TEST_F(FolderSource, unknown_model_types_list_the_known) {
  EXPECT_THAT(error_with("model_type", "hal9000"),
              AllOf(HasSubstr("model_type"), HasSubstr("llama, mistral"), HasSubstr("\"hal9000\"")));
  EXPECT_THAT(error_with("model_type", 9), HasSubstr("expected a string, found 9"));
  EXPECT_THAT(error_without("model_type"), HasSubstr("found no such key"));
}

TEST_F(FolderSource, quantized_folders_are_refused_by_name) {
  EXPECT_THAT(error_with("quantization_config", *Json::parse(R"({"quant_method": "gptq", "bits": 4})")),
              HasSubstr("found \"gptq\""));
}

TEST_F(FolderSource, text_config_comes_first) {
  Json outer = *Json::parse(R"({"model_type": "qwen3", "hidden_size": 9999, "tie_word_embeddings": true})");
  Json inner = config_;
  std::erase_if(inner.object(), [](const auto& member) { return member.first == "tie_word_embeddings"; });
  outer.set("text_config", inner);
  EXPECT_EQ(error_with(outer), "");
}

/// Folders of multimodal models hold the text model deeper, and more than we ask for.
TEST_F(FolderSource, tensors_may_lie_deeper) {
  const std::string bytes = *read_text_file(folder_ / "model.safetensors");
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  const Json flat = *Json::parse(bytes.substr(8, size));
  for (const std::string prefix : {"model.language_model.", "language_model.model."}) {
    Json deep;
    for (const auto& [name, value] : flat.object())
      deep.set(name.starts_with("model.") ? prefix + name.substr(6) : name, value);
    const std::string header = deep.dump();
    const uint64_t length = header.size();
    std::ofstream out(folder_ / "model.safetensors", std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << header << bytes.substr(8 + size);
    out.close();
    EXPECT_EQ(error_with(config_), "") << prefix;
    EXPECT_THAT(error_with("num_hidden_layers", 3), HasSubstr(prefix + "layers.2.input_layernorm.weight"));
  }
}

TEST_F(FolderSource, null_is_absent) {
  EXPECT_EQ(error_with("sliding_window", nullptr), "");
  EXPECT_THAT(error_with("intermediate_size", nullptr), HasSubstr("found no such key"));
}

/// The tiny Llama's metadata, changed by a test; every tensor is there.
std::string gguf_error(const std::function<void(gguf::Writer&)>& change) {
  gguf::Writer writer = tiny_metadata(
      *std::find_if(arch_table, arch_table + arch_table_size, [](const auto* a) { return a->name == "llama"; })[0]);
  change(writer);
  const auto bytes = writer.bytes();
  auto file = gguf::File::parse(*bytes);
  if (!file) return file.error().message;
  auto source = ModelSource::imagined(*std::move(file));
  return source ? error_of(**source, Weights::outline) : source.error().message;
}

template <typename T>
std::string gguf_error(std::string_view key, T value) {
  return gguf_error([&](gguf::Writer& w) { w.set(fmt::format("llama.{}", key), value); });
}

TEST(GgufSource, names_key_expected_and_found) {
  EXPECT_EQ(gguf_error([](gguf::Writer&) {}), "");
  EXPECT_EQ(gguf_error("block_count", 1u << 31),
            "llama.block_count: expected an integer of 1 to 4096, found 2147483648");
  EXPECT_EQ(gguf_error("block_count", "two"), "llama.block_count: expected an integer of 1 to 4096, found \"two\"");
  EXPECT_EQ(gguf_error("attention.head_count_kv", 1000u),
            "llama.attention.head_count_kv: expected a divisor of the 6 heads, found 1000");
  EXPECT_EQ(gguf_error("rope.dimension_count", 4096u),
            "llama.rope.dimension_count: expected an integer of 2 to 12, found 4096");
}

TEST(GgufSource, refuses_numbers_no_model_has) {
  for (const char* key :
       {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length",
        "attention.key_length", "attention.value_length", "vocab_size", "context_length"})
    for (uint32_t value : {0u, 1u << 31, 0xffffffffu})
      EXPECT_THAT(gguf_error(key, value), AllOf(HasSubstr("llama."), HasSubstr("expected"), HasSubstr("found")))
          << key << " = " << value;
  for (float value : {NAN, INFINITY, -1e-5f, 0.f, 2.f})
    EXPECT_THAT(gguf_error("attention.layer_norm_rms_epsilon", value), HasSubstr("expected a number"));
  for (float value : {NAN, INFINITY, 0.f, -1.f})
    EXPECT_THAT(gguf_error("rope.freq_base", value), HasSubstr("expected a number"));
  EXPECT_THAT(gguf_error("attention.head_count", 7u), HasSubstr("expected a divisor of the 7 heads"));
  EXPECT_THAT(gguf_error("expert_count", 8u), HasSubstr("llama.expert_count: expected none, found 8"));
  EXPECT_THAT(gguf_error("nextn_predict_layers", 3u), HasSubstr("expected an integer of 0 to 2, found 3"));
}

TEST(GgufSource, lists_per_layer_must_be_long_enough) {
  const std::vector<int32_t> two = {160, 160}, three = {160, 176, 192}, zero = {160, 0, 160};
  EXPECT_EQ(gguf_error("feed_forward_length", std::span(three)), "");
  EXPECT_THAT(gguf_error("feed_forward_length", std::span(two)), HasSubstr("expected a list of 3, found one of 2"));
  EXPECT_THAT(gguf_error("feed_forward_length", std::span(zero)),
              HasSubstr("llama.feed_forward_length[1]: expected an integer of 1"));
}

/// Without attention.key_length a head's width follows from the layer's number of heads.
gguf::Writer with_heads(std::string_view architecture, const std::vector<int32_t>& heads) {
  gguf::Writer writer;
  const auto set = [&](std::string_view key, auto value) {
    writer.set(fmt::format("{}.{}", architecture, key), value);
  };
  writer.set("general.architecture", architecture);
  set("block_count", static_cast<uint32_t>(heads.size()));
  for (const auto& [key, value] : {std::pair{"context_length", 512u},
                                   {"embedding_length", 256u},
                                   {"feed_forward_length", 16u},
                                   {"vocab_size", 40u}})
    set(key, value);
  set("attention.head_count", std::span(heads));
  set("attention.head_count_kv", std::span(heads));
  set("attention.layer_norm_rms_epsilon", 1e-5f);
  return writer;
}

std::string outline_error(const gguf::Writer& writer) {
  const auto bytes = writer.bytes();
  return error_of(**ModelSource::imagined(*gguf::File::parse(*bytes)), Weights::outline);
}

TEST(GgufSource, a_rope_fits_the_heads_of_every_layer) {
  EXPECT_EQ(outline_error(with_heads("llama", {1, 4}).set("llama.attention.value_length", 1u)),
            "layer 1: expected at most 64 rotated dimensions (a head's width), found 256");
  EXPECT_EQ(outline_error(with_heads("llama", {1, 4}).set("llama.rope.dimension_count", 64u)), "");
  EXPECT_EQ(outline_error(with_heads("llama", {4, 1})), "");  // a part of the wider heads turns
}

TEST(GgufSource, a_rope_need_not_fit_layers_that_it_does_not_turn) {
  EXPECT_EQ(outline_error(with_heads("smollm3", {2, 2, 2, 8})), "");
  EXPECT_THAT(outline_error(with_heads("smollm3", {2, 2, 8, 2})), HasSubstr("layer 2: expected at most 32 rotated"));
  const auto qwen35 = [](const std::vector<int32_t>& heads) {
    gguf::Writer writer = with_heads("qwen35", heads);
    for (const auto& [key, value] : {std::pair{"conv_kernel", 4u},
                                     {"state_size", 16u},
                                     {"group_count", 2u},
                                     {"time_step_rank", 6u},
                                     {"inner_size", 96u}})
      writer.set(fmt::format("qwen35.ssm.{}", key), value);
    return outline_error(writer);
  };
  EXPECT_EQ(qwen35({2, 8, 8, 2}), "");
  EXPECT_THAT(qwen35({2, 2, 2, 8}), HasSubstr("layer 3: expected at most 32 rotated dimensions"));
}

/// Dimensions of 1 moved: as many numbers in other columns, which are no blocks.
TEST(GgufSource, rows_are_whole_blocks_of_the_type) {
  gguf::Writer writer = tiny_metadata(
      *std::find_if(arch_table, arch_table + arch_table_size, [](const auto* a) { return a->name == "llama"; })[0]);
  writer.set("llama.embedding_length", 64u).set("llama.feed_forward_length", 1u);
  const auto tensors = asked_tensors(writer);
  ASSERT_TRUE(tensors) << tensors.error().message;
  const QuantType& q4_0 = *find_quant_type("Q4_0");
  for (const ModelSource::Asked& tensor : *tensors) {
    if (tensor.name == "blk.0.ffn_down.weight")
      writer.add(tensor.name, {64}, q4_0, std::vector<std::byte>(q4_0.row_bytes(64)));
    else
      writer.add(tensor.name, tensor.shape, quant_f32, std::vector<float>(tensor.shape.elements()));
  }
  const auto bytes = writer.bytes();
  ASSERT_TRUE(bytes);
  EXPECT_EQ(error_of(ModelSource::from(*gguf::File::parse(*bytes))),
            "blk.0.ffn_down.weight: expected rows in whole blocks of 32 (Q4_0), found 1 columns");
}

TEST(GgufSource, layers_beyond_the_count_are_an_error) {
  gguf::Writer writer = *tiny_writer(*arch_table[0]);
  writer.set(fmt::format("{}.block_count", arch_table[0]->name), 2u);
  const auto bytes = writer.bytes();
  EXPECT_THAT(error_of(ModelSource::from(*gguf::File::parse(*bytes))),
              HasSubstr("block_count: expected more than 2, for there is blk.2.attn_norm.weight"));
}

TEST(GgufSource, a_vocabulary_beyond_the_embedding_is_an_error) {
  EXPECT_THAT(gguf_error([](gguf::Writer& w) { w.set("tokenizer.ggml.tokens", std::vector<std::string>(332, "x")); }),
              HasSubstr("tokenizer.ggml.tokens: expected at most 331"));
}

}  // namespace
}  // namespace quern::testing
