// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <system_error>

#include "quern/cli/nearest.h"
#include "quern/gguf/file.h"
#include "quern/safetensors/folder.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

/// More entries than this are nobody's model folder.
constexpr int kMostEntries = 10'000;

fs::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  // The XDG base directory specification: relative paths are to be ignored.
  return value && *value == '/' ? fs::path(value) : fs::path();
}

fs::path xdg_folder(const char* variable, const char* below_home) {
  fs::path base = environment_path(variable);
  if (base.empty()) {
    const fs::path home = environment_path("HOME");
    if (home.empty()) return {};
    base = home / below_home;
  }
  return base / "quern";
}

int64_t size_of(const fs::path& path) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

int64_t weights_of(const fs::path& folder) {
  const auto paths = safetensors::weight_paths(folder);
  int64_t bytes = 0;
  if (paths)
    for (const fs::path& path : *paths) bytes += size_of(path);
  return bytes;
}

using Found = std::map<std::string, ListedModel>;

void add_file(const fs::path& path, Found& found) {
  const auto part = gguf::part_name(path);
  const std::string name = model_name(path);
  ListedModel& model = found[name];
  if (model.name.empty()) model = {name, path, 0, "gguf"};
  if (part && part->number == 0) model.path = path;
  model.bytes += size_of(path);
}

void scan(const fs::path& folder, int depth, int& entries, Found& found) {
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end && ++entries < kMostEntries;
       at.increment(error)) {
    std::error_code ignored;
    const fs::path& path = at->path();
    if (at->is_directory(ignored)) {
      const std::string name = path.filename().string();
      if (safetensors::is_model_folder(path))
        found[name] = {name, path, weights_of(path), "safetensors"};
      else if (depth > 1)
        scan(path, depth - 1, entries, found);
    } else if (path.extension() == ".gguf") {
      add_file(path, found);
    }
  }
}

}  // namespace

std::vector<fs::path> model_folders() {
  std::vector<fs::path> out;
  const char* own = std::getenv("QUERN_MODELS");
  const fs::path data = xdg_folder("XDG_DATA_HOME", ".local/share"), cache = xdg_folder("XDG_CACHE_HOME", ".cache");
  if (own && *own)
    out.emplace_back(own);
  else if (!data.empty())
    out.push_back(data / "models");
  if (!cache.empty()) out.push_back(cache / "models");
  std::error_code ignored;
  std::erase_if(out, [&](const fs::path& folder) { return !fs::is_directory(folder, ignored); });
  return out;
}

fs::path state_folder() { return xdg_folder("XDG_STATE_HOME", ".local/state"); }

std::vector<ListedModel> list_models(const std::vector<fs::path>& folders) {
  Found all;
  for (const fs::path& folder : folders) {
    Found found;
    int entries = 0;
    scan(folder, 2, entries, found);
    all.merge(found);
  }
  std::vector<ListedModel> out;
  for (auto& [name, model] : all) out.push_back(std::move(model));
  return out;
}

Result<fs::path> find_model(std::string_view text, const std::vector<fs::path>& folders) {
  const fs::path path(text);
  std::error_code error;
  if (!text.empty() && fs::exists(path, error)) return path;
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    return make_error(ErrorCode::not_found, "{}: {}", text, error.message());
  const std::vector<ListedModel> models = list_models(folders);
  std::vector<std::string_view> names;
  for (const ListedModel& model : models) {
    if (model.name == text || model.name + ".gguf" == text) return model.path;
    names.push_back(model.name);
  }
  const std::string_view near = near_name(text, names);
  return make_error(
      ErrorCode::not_found, "{}: expected a file, a folder or a name that `quern list` shows, found nothing{}",
      text.empty() ? "''" : text, near.empty() ? std::string() : fmt::format(" (nearest name: {})", near));
}

Result<fs::path> find_model(std::string_view text) { return find_model(text, model_folders()); }

std::string model_name(const fs::path& path) {
  std::string name;
  if (const auto folder = safetensors::folder_of(path)) {
    std::error_code ignored;
    const fs::path whole = (fs::absolute(*folder, ignored) / "").lexically_normal();  // ends with a slash
    name = whole.parent_path().filename().string();
  } else if (const auto part = gguf::part_name(path)) {
    name = part->prefix;
  } else {
    name = path.filename().string();
    if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  }
  return name.empty() ? path.string() : name;
}

fs::path model_place(const fs::path& path) {
  const fs::path whole = safetensors::folder_of(path).value_or(gguf::part_paths(path).front());
  std::error_code error;
  fs::path place = fs::weakly_canonical(whole, error);
  return error ? whole : place;
}

}  // namespace quern
