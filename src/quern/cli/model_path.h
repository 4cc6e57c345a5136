// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// A model of the local folders, usable by its name.
struct ListedModel {
  std::string name;
  std::filesystem::path path;  ///< a .gguf file (the first of a split one) or a folder with a config.json
  int64_t bytes = 0;           ///< of the files of weights that are read
  std::string format;          ///< "gguf" or "safetensors"
};

/// Folders that are looked through: $QUERN_MODELS, else ${XDG_DATA_HOME:-~/.local/share}/quern/models; then
/// ${XDG_CACHE_HOME:-~/.cache}/quern/models. Those that exist.
std::vector<std::filesystem::path> model_folders();

/// ${XDG_STATE_HOME:-~/.local/state}/quern; empty without a home.
std::filesystem::path state_folder();

/// Models in these folders, two levels deep, sorted by name; a name that comes twice is the first folder's.
std::vector<ListedModel> list_models(const std::vector<std::filesystem::path>& folders);

/// What MODEL may be, in the help of the commands that take one.
inline constexpr std::string_view kModelHelp =
    "A .gguf file (any part of a split one), a model folder or one of its files, or a listed name.";

/// What MODEL on a command line means: a path that exists, else the name of a listed model (with or without .gguf).
/// not_found names the path, and the nearest listed name if one is near.
Result<std::filesystem::path> find_model(std::string_view text, const std::vector<std::filesystem::path>& folders);
Result<std::filesystem::path> find_model(std::string_view text);

/// What a model at a path is called: as its file, without .gguf and, of a split one, without the number of the part, or
/// as its folder, however that is given.
std::string model_name(const std::filesystem::path& path);

/// The same for every path to the same model: its folder or file, of a split one the first, without links on the way.
std::filesystem::path model_place(const std::filesystem::path& path);

}  // namespace quern
