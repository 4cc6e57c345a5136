// SPDX-License-Identifier: Apache-2.0
#include "quern/safetensors/folder.h"

#include <algorithm>
#include <map>
#include <set>

#include "quern/io/mapped_file.h"

namespace quern::safetensors {

namespace fs = std::filesystem;

struct Folder::Impl {
  fs::path path;
  std::vector<MappedFile> maps;  // first: the tensors look into them
  std::vector<Tensor> tensors;   // by name
  Json config, generation_config;
  int64_t bytes = 0;
};

namespace {

constexpr std::string_view kSingle = "model.safetensors", kIndex = "model.safetensors.index.json";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

Result<Json> read_json(const fs::path& path, size_t limit = 256 << 20) {
  QUERN_TRY(std::string text, read_text_file(path, limit));
  auto json = Json::parse(text);
  if (!json) return std::move(json).error().in(path.string());
  if (!json->is_object()) return make_error(ErrorCode::corrupt_data, "{}: expected a JSON object", path.string());
  return json;
}

struct OpenShard {
  MappedFile map;
  std::vector<Tensor> tensors;
};

Result<OpenShard> open_shard(const fs::path& path) {
  QUERN_TRY(MappedFile map, MappedFile::open(path));
  auto tensors = parse_file(map.bytes());
  if (!tensors) return std::move(tensors).error().in(path.string());
  return OpenShard{std::move(map), *std::move(tensors)};
}

/// Names of shards come out of a file: a plain name in the same folder, nothing that leads elsewhere.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 && name.find('/') == name.npos && name.find('\0') == name.npos;
}

/// tensor -> shard of the index; checked names.
Result<std::map<std::string, std::string>> read_index(const fs::path& path) {
  QUERN_TRY(Json index, read_json(path));
  const Json* map = index.find("weight_map");
  if (!map || !map->is_object()) return make_error(ErrorCode::corrupt_data, "{}: expected an object weight_map", path.string());
  std::map<std::string, std::string> out;
  for (const auto& [tensor, shard] : map->object()) {
    if (!shard.is_string() || !is_plain_name(shard.string()))
      return make_error(ErrorCode::corrupt_data, "{}: {}: expected the name of a file in the same folder, found {}", path.string(), json_quote(tensor), shard.dump());
    out.emplace(tensor, shard.string());
  }
  return out;
}

}  // namespace

Result<Folder> Folder::open(const fs::path& given) {
  auto impl = std::make_unique<Impl>();
  std::error_code ignored;
  impl->path = fs::is_directory(given, ignored) ? given : given.parent_path();
  if (!fs::exists(given, ignored)) return make_error(ErrorCode::not_found, "{}: no such file or folder", given.string());
  if (!is_file(impl->path / "config.json"))
    return make_error(ErrorCode::not_found, "{}: expected a model folder with config.json, found none", impl->path.string());
  QUERN_TRY(impl->config, read_json(impl->path / "config.json", 16 << 20));
  if (is_file(impl->path / "generation_config.json")) {
    QUERN_TRY(impl->generation_config, read_json(impl->path / "generation_config.json", 16 << 20));
  }

  const auto add = [&](OpenShard&& shard) {
    impl->bytes += static_cast<int64_t>(shard.map.bytes().size());
    impl->maps.push_back(std::move(shard.map));
    std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(impl->tensors));
  };
  if (is_file(impl->path / kIndex)) {
    QUERN_TRY(const auto index, read_index(impl->path / kIndex));
    std::map<std::string, std::set<std::string>> held;
    for (const auto& [tensor, shard] : index) {
      if (held.contains(shard)) continue;
      QUERN_TRY(OpenShard opened, open_shard(impl->path / shard));
      for (const Tensor& t : opened.tensors) held[shard].insert(t.name);
      held.try_emplace(shard);
      add(std::move(opened));
    }
    for (const auto& [tensor, shard] : index)
      if (!held[shard].contains(tensor))
        return make_error(ErrorCode::corrupt_data, "{}: expected tensor '{}' as the index says, found none", (impl->path / shard).string(), tensor);
  } else if (is_file(impl->path / kSingle)) {
    QUERN_TRY(OpenShard opened, open_shard(impl->path / kSingle));
    add(std::move(opened));
  } else {
    return make_error(ErrorCode::not_found, "{}: expected {} or {}, found neither", impl->path.string(), kSingle, kIndex);
  }

  std::sort(impl->tensors.begin(), impl->tensors.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < impl->tensors.size(); ++i)
    if (impl->tensors[i].name == impl->tensors[i - 1].name)
      return make_error(ErrorCode::corrupt_data, "{}: tensor '{}' stands in two shards", impl->path.string(), impl->tensors[i].name);
  return Folder(std::move(impl));
}

Folder::Folder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Folder::Folder(Folder&&) noexcept = default;
Folder& Folder::operator=(Folder&&) noexcept = default;
Folder::~Folder() = default;

const Json& Folder::config() const { return impl_->config; }
const Json& Folder::generation_config() const { return impl_->generation_config; }
std::span<const Tensor> Folder::tensors() const { return impl_->tensors; }
const fs::path& Folder::path() const { return impl_->path; }
int64_t Folder::file_bytes() const { return impl_->bytes; }

const Tensor* Folder::find(std::string_view name) const {
  const auto it = std::lower_bound(impl_->tensors.begin(), impl_->tensors.end(), name, [](const Tensor& t, std::string_view n) { return t.name < n; });
  return it != impl_->tensors.end() && it->name == name ? &*it : nullptr;
}

std::optional<fs::path> Folder::tokenizer_json() const {
  const fs::path path = impl_->path / "tokenizer.json";
  return is_file(path) ? std::optional(path) : std::nullopt;
}

std::optional<fs::path> Folder::tokenizer_config() const {
  const fs::path path = impl_->path / "tokenizer_config.json";
  return is_file(path) ? std::optional(path) : std::nullopt;
}

Result<std::optional<std::string>> Folder::chat_template() const {
  if (const fs::path path = impl_->path / "chat_template.jinja"; is_file(path)) {
    QUERN_TRY(std::string text, read_text_file(path, 16 << 20));
    return std::optional(std::move(text));
  }
  const auto path = tokenizer_config();
  if (!path) return std::optional<std::string>();
  QUERN_TRY(Json config, read_json(*path));
  const Json* text = config.find("chat_template");
  if (text && text->is_array()) {  // several, each {name, template}
    const Json* chosen = nullptr;
    for (const Json& named : text->array()) {
      const Json* name = named.find("name");
      if (name && *name == Json("default")) chosen = named.find("template");
    }
    text = chosen;
  }
  return text && text->is_string() ? std::optional(text->string()) : std::optional<std::string>();
}

}  // namespace quern::safetensors
