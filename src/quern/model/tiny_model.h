// SPDX-License-Identifier: Apache-2.0
// For tests only: the tiny random model of every registered architecture, as a GGUF file and loaded.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "quern/base/json.h"
#include "quern/gguf/file.h"
#include "quern/gguf/writer.h"
#include "quern/model/architecture.h"
#include "quern/model/source.h"
#include "quern/model/testing.h"

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

/// The tiny model as a file in the making: metadata and every tensor that loading asks for, optional ones included,
/// F32.
inline Result<gguf::Writer> tiny_writer(const Architecture& architecture, uint32_t seed = 1) {
  gguf::Writer writer = tiny_metadata(architecture);
  QUERN_TRY(const std::vector<std::byte> metadata, writer.bytes());
  QUERN_TRY(auto file, gguf::File::parse(metadata));
  QUERN_TRY(const auto source, ModelSource::imagined(std::move(file)));
  Pool pool(1);
  QUERN_TRY(const auto outline, load_model(*source, {kernel_table(best_isa()), pool, no_progress, Weights::outline}));
  std::mt19937 random(seed);
  std::vector<std::string> added;
  for (const ModelSource::Asked& tensor : source->asked()) {
    if (std::ranges::find(added, tensor.name) != added.end())
      continue;  // a fused tensor is asked for by each of its parts
    added.push_back(tensor.name);
    writer.add(tensor.name, tensor.shape, quant_f32, tiny_values(architecture, tensor, random));
  }
  return writer;
}

/// The tiny model loaded; the file's bytes lie beside it.
struct LoadedTiny {
  std::vector<std::byte> bytes;
  std::unique_ptr<ModelSource> source;
  std::unique_ptr<Model> model;
};

inline Result<LoadedTiny> load_tiny(const Architecture& architecture, Pool& pool, uint32_t seed = 1) {
  LoadedTiny tiny;
  QUERN_TRY(const gguf::Writer writer, tiny_writer(architecture, seed));
  QUERN_TRY(tiny.bytes, writer.bytes());
  QUERN_TRY(auto file, gguf::File::parse(tiny.bytes));
  QUERN_TRY(tiny.source, ModelSource::from(std::move(file)));
  QUERN_TRY(tiny.model, load_model(*tiny.source, {kernel_table(best_isa()), pool, no_progress}));
  return tiny;
}

}  // namespace quern::testing
