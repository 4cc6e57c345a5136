// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/gguf/file.h"
#include "quern/safetensors/folder.h"
#include "quern/tensor/tensor_view.h"

namespace quern {

/// One hyper-parameter under its two names: the GGUF key without the architecture's prefix, and the path of keys in
/// config.json ("rope_parameters.rope_theta"). Empty: that container has no such key.
struct Key {
  std::string_view gguf, hf;
};

/// One tensor under its two names. "{}" stands for the layer.
struct TensorName {
  std::string_view gguf, hf;
};

/// Where a model comes from: a GGUF file (any part of a split one) or a folder as published on Hugging Face. Gives
/// hyper-parameters and tensors under one of two names, checked: a number out of range, of another kind or missing, and
/// a tensor of another shape, are errors that name the key or tensor, what was expected and what was found. Immutable
/// and mapped; views of tensors live as long as the source.
class ModelSource {
 public:
  static Result<std::unique_ptr<ModelSource>> open(const std::filesystem::path& path);
  static Result<std::unique_ptr<ModelSource>> from(gguf::File file);
  static Result<std::unique_ptr<ModelSource>> from(safetensors::Folder folder);
  /// A source in which every tensor that is asked for exists, as F32 without data; `asked` tells which those were. For
  /// loading an outline (LoadContext) of a model that is metadata alone.
  static Result<std::unique_ptr<ModelSource>> imagined(gguf::File metadata);

  /// general.architecture, or model_type.
  const std::string& architecture() const { return architecture_; }
  const gguf::File* gguf() const { return file_ ? &*file_ : nullptr; }
  const safetensors::Folder* folder() const { return folder_ ? &*folder_ : nullptr; }
  bool is_gguf() const { return file_.has_value(); }
  int64_t file_bytes() const { return is_gguf() ? file_->file_bytes() : folder_->file_bytes(); }
  /// The files that are mapped.
  std::vector<std::filesystem::path> paths() const;
  /// Numbers in all tensors of the file.
  int64_t elements() const;

  // Hyper-parameters. Ranges are inclusive; a number must be finite. Without `fallback` the key must be there; null in
  // config.json counts as absent.
  Result<int64_t> integer(Key key, int64_t low, int64_t high, std::optional<int64_t> fallback = {}) const;
  Result<double> number(Key key, double low, double high, std::optional<double> fallback = {}) const;
  Result<bool> boolean(Key key, std::optional<bool> fallback) const;
  Result<std::string> text(Key key, std::optional<std::string_view> fallback) const;
  /// One integer for every layer: a list of `count`, or one number for all.
  Result<std::vector<int64_t>> integers(Key key, int count, int64_t low, int64_t high,
                                        std::optional<int64_t> fallback = {}) const;
  bool has(Key key) const;
  /// The key as errors name it: "llama.block_count", "config.json: num_hidden_layers".
  std::string name(Key key) const;
  /// A value of config.json, looked for in its `text_config` first; null pointer if absent or null, or from GGUF.
  const Json* config(std::string_view path) const;

  // Tensors. `shape` in GGUF's order, fastest dimension first; dimensions of 1 do not count. Its rows are whole blocks
  // of the tensor's type.
  Result<TensorView> tensor(TensorName name, int layer, const Shape& shape) const;
  Result<std::optional<TensorView>> find_tensor(TensorName name, int layer, const Shape& shape) const;
  /// The tensor whatever its shape; null pointer if there is none.
  const TensorView* find_tensor(TensorName name, int layer = 0) const;
  std::string name(TensorName name, int layer) const;
  /// The bytes of a tensor, or a part of them, have been taken: MappedFile::let_go.
  void let_go(std::span<const std::byte> data) const { is_gguf() ? file_->let_go(data) : folder_->let_go(data); }
  /// Those bytes, and what follows in the same file, are wanted soon: MappedFile::read_ahead.
  void read_ahead(const std::byte* from, size_t bytes) const {
    is_gguf() ? file_->read_ahead(from, bytes) : folder_->read_ahead(from, bytes);
  }

  struct Asked {
    std::string name;
    Shape shape;
  };
  std::span<const Asked> asked() const { return asked_ ? std::span<const Asked>(*asked_) : std::span<const Asked>(); }

 private:
  ModelSource() = default;
  Status read_gguf_identity();
  Status read_folder_identity();
  std::string hf_name(std::string_view pattern, int layer) const;

  // constant after construction
  std::optional<gguf::File> file_;
  std::optional<safetensors::Folder> folder_;
  std::string architecture_;
  const Json* config_ = nullptr;               // the text model's object
  std::string hf_prefix_;                      // stands where names say "model."
  std::unique_ptr<std::vector<Asked>> asked_;  // set for imagined sources only
};

}  // namespace quern
