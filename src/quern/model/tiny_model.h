// SPDX-License-Identifier: Apache-2.0
// For tests only: the tiny random model of every registered architecture, as a GGUF file and loaded; and its variants:
// with quantized weights, with sliding windows.
#pragma once

#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "quern/base/json.h"
#include "quern/gguf/file.h"
#include "quern/gguf/writer.h"
#include "quern/model/architecture.h"
#include "quern/model/source.h"
#include "quern/model/testing.h"
#include "quern/quant/half.h"
#include "quern/safetensors/testing.h"

namespace quern::testing {

/// A writer with the metadata of an architecture's tiny model, and no tensors; no tokenizer either.
inline gguf::Writer tiny_metadata(const Architecture& architecture) {
  gguf::Writer writer;
  writer.set("general.architecture", architecture.name);
  const Json metadata = *Json::parse(architecture.tiny.metadata);
  for (const auto& [name, value] : metadata.object()) {
    const std::string key = fmt::format("{}.{}", architecture.name, name);
    if (value.is_bool()) writer.set(key, value.boolean());
    if (value.is_integer()) writer.set(key, static_cast<uint32_t>(value.integer()));
    if (value.type() == Json::Type::number) writer.set(key, static_cast<float>(value.number()));
    if (value.is_string()) writer.set(key, value.string());
    if (value.is_array()) {
      std::vector<int32_t> list;
      for (const Json& item : value.array())
        list.push_back(item.is_bool() ? item.boolean() : static_cast<int32_t>(item.integer()));
      writer.set(key, std::span<const int32_t>(list));
    }
  }
  return writer;
}

/// Random values of one tensor: such that activations keep their size from layer to layer.
inline std::vector<float> tiny_values(const Architecture& architecture, const ModelSource::Asked& tensor,
                                      std::mt19937& random) {
  float low = -0.1f, high = 0.1f;  // biases
  if (tensor.shape.rank > 1) high = std::sqrt(3 / static_cast<float>(tensor.shape.columns())), low = -high;
  if (tensor.name.find("norm") != std::string::npos) low = 0.8f, high = 1.2f;
  for (const TinyModel::Values& values : architecture.tiny.values)
    if (tensor.name.find(values.name) != std::string::npos) low = values.low, high = values.high;
  std::vector<float> out(tensor.shape.elements());
  for (float& v : out) v = low + (high - low) * (static_cast<float>(random() >> 8) * 0x1p-24f);
  return out;
}

/// Every tensor that loading a file of this metadata asks for, optional ones included, each once.
inline Result<std::vector<ModelSource::Asked>> asked_tensors(const gguf::Writer& writer) {
  QUERN_TRY(const std::vector<std::byte> metadata, writer.bytes());
  QUERN_TRY(auto file, gguf::File::parse(metadata));
  QUERN_TRY(const auto source, ModelSource::imagined(std::move(file)));
  Pool pool(1);
  QUERN_TRY(const auto outline, load_model(*source, {kernel_table(best_isa()), pool, no_progress, Weights::outline}));
  std::vector<ModelSource::Asked> tensors;
  for (const ModelSource::Asked& tensor : source->asked())  // a fused tensor is asked for by each of its parts
    if (std::ranges::find(tensors, tensor.name, &ModelSource::Asked::name) == tensors.end()) tensors.push_back(tensor);
  return tensors;
}

enum class TinyWeights : uint8_t {
  f32,
  quantized,  ///< matrices: Q8_0 where rows are whole blocks of it, BF16 elsewhere; vectors stay F32
  k_quants,   ///< Q4_K and Q6_K, in turn from layer to layer, where rows are whole blocks; else as `quantized`
};

/// Makes the rows of most matrices whole blocks of 256: all but those whose number of columns follows from heads.
inline void widen(gguf::Writer& writer, const Architecture& architecture) {
  const Json metadata = *Json::parse(architecture.tiny.metadata);
  const auto set = [&](std::string_view key, uint32_t value) {
    if (metadata.find(key)) writer.set(fmt::format("{}.{}", architecture.name, key), value);
  };
  if (metadata.find("attention.key_length")) set("embedding_length", 256);
  set("feed_forward_length", 512);
  set("expert_feed_forward_length", 256);
  set("expert_shared_feed_forward_length", 256);
}

/// Random blocks of Q4_K or Q6_K (docs/formats.md): values around 0 with the spread of `tiny_values`.
inline std::vector<std::byte> random_k_blocks(const QuantType& type, const Shape& shape, std::mt19937& random) {
  std::vector<std::byte> out(shape.elements() / type.block_elems * type.block_bytes);
  for (std::byte& b : out) b = static_cast<std::byte>(random() >> 24);
  const bool is_q4 = type.name == "Q4_K";
  // The spread with d = 1, of products of uniform integers; Q4_K's minima take the mean of its codes away.
  const float d = 1 / ((is_q4 ? 255.0f : 1370.0f) * std::sqrt(static_cast<float>(shape.columns())));
  const auto put = [](std::byte* at, float value) {
    const uint16_t half = float_to_half(value);
    std::memcpy(at, &half, sizeof half);
  };
  for (size_t at = 0; at < out.size(); at += type.block_bytes) {
    put(&out[at + (is_q4 ? 0 : 208)], d);
    if (is_q4) put(&out[at + 2], 7.5f * d);
  }
  return out;
}

/// Q8_0 (docs/formats.md): 32 values as a binary16 scale and 32 int8.
inline std::vector<std::byte> encode_q8_0(std::span<const float> values) {
  std::vector<std::byte> out;
  for (size_t at = 0; at < values.size(); at += 32) {
    const auto block = values.subspan(at, 32);
    float largest = 0;
    for (float v : block) largest = std::max(largest, std::abs(v));
    const uint16_t scale = float_to_half(largest / 127);
    const float step = half_to_float(scale);
    out.push_back(static_cast<std::byte>(scale & 255));
    out.push_back(static_cast<std::byte>(scale >> 8));
    for (float v : block)
      out.push_back(static_cast<std::byte>(step > 0 ? std::clamp<long>(std::lround(v / step), -127, 127) : 0));
  }
  return out;
}

/// The tiny model as a file in the making: metadata and every tensor that loading asks for.
inline Result<gguf::Writer> tiny_writer(const Architecture& architecture, uint32_t seed = 1,
                                        TinyWeights weights = TinyWeights::f32) {
  gguf::Writer writer = tiny_metadata(architecture);
  if (weights == TinyWeights::k_quants) widen(writer, architecture);
  QUERN_TRY(const auto tensors, asked_tensors(writer));
  std::mt19937 random(seed);
  std::map<std::string, size_t> k_turn;  // by name without the layer
  for (const ModelSource::Asked& tensor : tensors) {
    if (weights == TinyWeights::k_quants && tensor.shape.rank >= 2 && tensor.shape.columns() % 256 == 0) {
      const std::string kind = tensor.name.substr(tensor.name.find_last_of("0123456789") + 1);
      size_t& turn = k_turn.try_emplace(kind, k_turn.size()).first->second;
      const QuantType& type = *find_quant_type(turn++ % 2 ? "Q6_K" : "Q4_K");
      writer.add(tensor.name, tensor.shape, type, random_k_blocks(type, tensor.shape, random));
      continue;
    }
    const std::vector<float> values = tiny_values(architecture, tensor, random);
    if (weights == TinyWeights::f32 || tensor.shape.rank < 2)
      writer.add(tensor.name, tensor.shape, quant_f32, values);
    else if (tensor.shape.columns() % 32 == 0)
      writer.add(tensor.name, tensor.shape, *find_quant_type("Q8_0"), encode_q8_0(values));
    else
      writer.add(tensor.name, tensor.shape, quant_bf16, values);
  }
  return writer;
}

/// A tiny model loaded; a GGUF file's bytes lie beside it.
struct LoadedTiny {
  std::vector<std::byte> bytes;
  std::unique_ptr<ModelSource> source;
  std::unique_ptr<Model> model;
};

inline Result<LoadedTiny> load_tiny(const Architecture& architecture, Pool& pool, uint32_t seed = 1,
                                    TinyWeights weights = TinyWeights::f32) {
  LoadedTiny tiny;
  QUERN_TRY(const gguf::Writer writer, tiny_writer(architecture, seed, weights));
  QUERN_TRY(tiny.bytes, writer.bytes());
  QUERN_TRY(auto file, gguf::File::parse(tiny.bytes));
  QUERN_TRY(tiny.source, ModelSource::from(std::move(file)));
  QUERN_TRY(tiny.model, load_model(*tiny.source, {kernel_table(best_isa()), pool, no_progress}));
  return tiny;
}

/// Layers of the model with windows, and the tokens that each of them sees. No GGUF key says so: it is a folder.
inline constexpr int kTinyWindowLayers = 3, kTinyWindow = 20;

/// config.json and tensors of a tiny Mistral, whose every layer has a window.
inline void write_tiny_mistral(const std::filesystem::path& folder, const Architecture& llama, uint32_t seed) {
  std::ofstream(folder / "config.json") << fmt::format(
      R"({{"model_type": "mistral", "num_hidden_layers": {}, "hidden_size": 64, "intermediate_size": 96,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 333, "rms_norm_eps": 1e-5,
      "max_position_embeddings": 512, "rope_theta": 10000.0, "sliding_window": {}, "tie_word_embeddings": false}})",
      kTinyWindowLayers, kTinyWindow);
  std::vector<ModelSource::Asked> tensors = {
      {"model.embed_tokens.weight", {64, 333}}, {"model.norm.weight", {64}}, {"lm_head.weight", {64, 333}}};
  for (int i = 0; i < kTinyWindowLayers; ++i)
    for (const ModelSource::Asked& tensor :
         std::initializer_list<ModelSource::Asked>{{"input_layernorm", {64}},
                                                   {"self_attn.q_proj", {64, 64}},
                                                   {"self_attn.k_proj", {64, 32}},
                                                   {"self_attn.v_proj", {64, 32}},
                                                   {"self_attn.o_proj", {64, 64}},
                                                   {"post_attention_layernorm", {64}},
                                                   {"mlp.gate_proj", {64, 96}},
                                                   {"mlp.up_proj", {64, 96}},
                                                   {"mlp.down_proj", {96, 64}}})
      tensors.push_back({fmt::format("model.layers.{}.{}.weight", i, tensor.name), tensor.shape});
  std::mt19937 random(seed);
  std::string header;
  std::vector<float> data;
  for (const ModelSource::Asked& tensor : tensors) {
    const std::vector<float> values = tiny_values(llama, tensor, random);
    const std::string shape = tensor.shape.rank == 1
                                  ? fmt::format("{}", tensor.shape.columns())
                                  : fmt::format("{}, {}", tensor.shape.rows(), tensor.shape.columns());
    header += fmt::format(R"({}"{}": {{"dtype": "F32", "shape": [{}], "data_offsets": [{}, {}]}})",
                          header.empty() ? "{" : ", ", tensor.name, shape, data.size() * 4,
                          (data.size() + values.size()) * 4);
    data.insert(data.end(), values.begin(), values.end());
  }
  const auto bytes = safetensors::testing::file_of(header + "}", std::as_bytes(std::span(data)));
  std::ofstream(folder / "model.safetensors", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline Result<LoadedTiny> load_tiny_mistral(const Architecture& llama, Pool& pool, uint32_t seed = 1) {
  std::string folder = (std::filesystem::temp_directory_path() / "quern-tiny-XXXXXX").string();
  if (!mkdtemp(folder.data())) return make_error(ErrorCode::internal, "{}: no folder can be made", folder);
  write_tiny_mistral(folder, llama, seed);
  LoadedTiny tiny;
  auto source = ModelSource::open(folder);
  std::filesystem::remove_all(folder);  // what is mapped needs no name
  QUERN_TRY(tiny.source, std::move(source));
  QUERN_TRY(tiny.model, load_model(*tiny.source, {kernel_table(best_isa()), pool, no_progress}));
  return tiny;
}

/// A tiny model as a test parameter.
struct TinyVariant {
  std::string name;  ///< letters, digits and _ only: "llama", "llama_quantized", "llama_window"
  const Architecture* architecture;
  TinyWeights weights = TinyWeights::f32;
  bool window = false;  ///< the tiny Mistral

  friend std::ostream& operator<<(std::ostream& out, const TinyVariant& variant) { return out << variant.name; }
};

/// Every registered architecture with each kind of weights, and the plain decoder with windows.
inline std::vector<TinyVariant> all_tiny_variants() {
  std::vector<TinyVariant> variants;
  for (const Architecture* architecture : std::span(arch_table, arch_table_size)) {
    std::string name(architecture->name);
    for (char& c : name)
      if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    variants.push_back({name, architecture});
    variants.push_back({name + "_quantized", architecture, TinyWeights::quantized});
    variants.push_back({name + "_k_quants", architecture, TinyWeights::k_quants});
    if (std::ranges::find(architecture->hf_model_types, "mistral") != architecture->hf_model_types.end())
      variants.push_back({name + "_window", architecture, TinyWeights::f32, true});
  }
  return variants;
}

inline Result<LoadedTiny> load_tiny(const TinyVariant& variant, Pool& pool, uint32_t seed = 1) {
  return variant.window ? load_tiny_mistral(*variant.architecture, pool, seed)
                        : load_tiny(*variant.architecture, pool, seed, variant.weights);
}

}  // namespace quern::testing
