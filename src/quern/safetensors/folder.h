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
#include "quern/tensor/tensor_view.h"

namespace quern::safetensors {

/// Number formats of the container, `dtype` of the header. Those that are weight types here have a QuantType.
struct Tensor {
  std::string name;
  std::string_view dtype;  ///< as written: "BF16", "F8_E4M3", ...
  TensorView view;         ///< type is null where the dtype is no weight type (integers, FP8); sizes may be 0
};

/// The model folder that a path names: a folder, or the one where its config.json, its index of weights or one of its
/// .safetensors files lies. Nothing: another path, as of a GGUF file. Of what is inside it looks at nothing.
std::optional<std::filesystem::path> folder_of(const std::filesystem::path& path);

/// Whether a folder says that it is a model's: a config.json lies in it.
bool is_model_folder(const std::filesystem::path& folder);

/// The files of weights that `Folder::open` maps, whether they are there or not: of all that lie in a model folder the
/// one, or those that its index names. Opens no file but the index.
Result<std::vector<std::filesystem::path>> weight_paths(const std::filesystem::path& folder);

/// A model folder as published on Hugging Face: config.json and model.safetensors, or shards by
/// model.safetensors.index.json. All files mapped, every bound checked before anything is allocated. Immutable.
class Folder {
 public:
  /// `path`: the folder or one of its files, as `folder_of` takes them.
  static Result<Folder> open(const std::filesystem::path& path);
  Folder(Folder&&) noexcept;
  Folder& operator=(Folder&&) noexcept;
  ~Folder();

  const Json& config() const;               ///< config.json
  const Json& generation_config() const;    ///< generation_config.json, or null
  std::span<const Tensor> tensors() const;  ///< sorted by name
  const Tensor* find(std::string_view name) const;
  const std::filesystem::path& path() const;
  std::vector<std::filesystem::path> weight_paths() const;  ///< the files that are mapped
  int64_t file_bytes() const;
  /// See MappedFile.
  void let_go(std::span<const std::byte> piece) const;
  void read_ahead(const std::byte* from, size_t bytes) const;

  std::optional<std::filesystem::path> tokenizer_json() const;
  std::optional<std::filesystem::path> tokenizer_config() const;
  /// chat_template.jinja, else the chat_template of tokenizer_config.json or chat_template.json (a string, or the one
  /// named "default").
  Result<std::optional<std::string>> chat_template() const;

 private:
  struct Impl;
  explicit Folder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The header of one file: the same checks as Folder::open, on bytes that outlive the result. In the order of the data.
Result<std::vector<Tensor>> parse_file(std::span<const std::byte> bytes);

/// The template in a tokenizer_config.json: a text, or several of which one is named "default". Null if there is none;
/// points into `config`. Another form, or a list without "default", is an error.
Result<const Json*> template_in(const Json& config);

}  // namespace quern::safetensors
