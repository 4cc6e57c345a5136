// SPDX-License-Identifier: Apache-2.0
#include "quern/safetensors/folder.h"

#include <algorithm>
#include <map>
#include <set>

#include "quern/io/mapped_file.h"
#include "quern/io/printable.h"

namespace quern::safetensors {

namespace fs = std::filesystem;

struct Folder::Impl {
  fs::path path;
  std::vector<MappedFile> maps;    // first: the tensors look into them
  std::vector<std::string> names;  // of their files
  std::vector<Tensor> tensors;     // by name
  Json config, generation_config;
  int64_t bytes = 0;
};

namespace {

constexpr std::string_view kSingle = "model.safetensors", kIndex = "model.safetensors.index.json";
constexpr size_t kMostConfigBytes = 16 << 20, kMostIndexBytes = 128 << 20, kMostTokenizerConfigBytes = 256 << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

Result<Json> read_json(const fs::path& path, size_t limit) {
  QUERN_TRY(std::string text, read_text_file(path, limit));
  if (is_lfs_pointer(text))
    return make_error(ErrorCode::corrupt_data,
                      "{}: expected JSON, found a Git LFS pointer: the content was not downloaded", path.string());
  auto json = Json::parse(text);
  if (!json) return std::move(json).error().in(path.string());
  if (!json->is_object()) return make_error(ErrorCode::corrupt_data, "{}: expected a JSON object", path.string());
  return json;
}

/// A file of weights and what it holds.
struct Shard {
  MappedFile map;
  std::vector<Tensor> tensors;
};

Result<Shard> open_shard(const fs::path& path) {
  QUERN_TRY(MappedFile map, MappedFile::open(path));
  auto tensors = parse_file(map.bytes());
  if (!tensors) return std::move(tensors).error().in(path.string());
  return Shard{std::move(map), *std::move(tensors)};
}

/// Names of shards come out of a file: a plain name in the same folder, nothing that leads elsewhere.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

/// shard -> tensors it holds, as the index says; names checked.
using Index = std::map<std::string, std::vector<std::string>>;

Result<Index> read_index(const fs::path& path) {
  QUERN_TRY(const Json index, read_json(path, kMostIndexBytes));
  const Json* map = index.find("weight_map");
  if (!map || !map->is_object() || map->object().empty())
    return make_error(ErrorCode::corrupt_data, "{}: weight_map: expected an object from tensors to files",
                      path.string());
  Index out;
  for (const auto& [tensor, shard] : map->object()) {
    if (!shard.is_string() || !is_plain_name(shard.string()))
      return make_error(ErrorCode::corrupt_data, "{}: {}: expected the name of a file in the same folder, found {}",
                        path.string(), printable(tensor), printable(shard.is_string() ? shard.string() : shard.dump()));
    out[shard.string()].push_back(tensor);
  }
  return out;
}

/// Every file of weights by name, with what the index says: the one, of which it says nothing, or those that it names.
Result<Index> weight_files(const fs::path& folder) {
  // The order of the reference implementation: a whole file counts more than an index left beside it.
  if (is_file(folder / kSingle)) return Index{{std::string(kSingle), {}}};
  if (is_file(folder / kIndex)) return read_index(folder / kIndex);
  return make_error(ErrorCode::not_found, "{}: expected {} or {}, found neither", folder.string(), kSingle, kIndex);
}

Result<std::map<std::string, Shard>> open_shards(const fs::path& folder) {
  std::map<std::string, Shard> out;
  QUERN_TRY(const Index files, weight_files(folder));
  for (const auto& [name, tensors] : files) {
    QUERN_TRY(Shard shard, open_shard(folder / name));
    std::set<std::string_view> held;
    for (const Tensor& tensor : shard.tensors) held.insert(tensor.name);
    for (const std::string& tensor : tensors)
      if (!held.contains(tensor))
        return make_error(ErrorCode::corrupt_data, "{}: expected tensor {} as {} says, found none",
                          (folder / name).string(), printable(tensor), kIndex);
    out.emplace(name, std::move(shard));
  }
  return out;
}

/// The folder that is there.
Result<fs::path> existing_folder(const fs::path& given) {
  std::error_code ignored;
  if (!fs::exists(given, ignored))
    return make_error(ErrorCode::not_found, "{}: no such file or folder", given.string());
  auto folder = folder_of(given);
  if (!folder)
    return make_error(ErrorCode::invalid_argument,
                      "{}: expected a model folder, its config.json or one of its .safetensors files", given.string());
  return *std::move(folder);
}

}  // namespace

std::optional<fs::path> folder_of(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return path;
  const fs::path name = path.filename();
  if (name != "config.json" && name != kIndex && name.extension() != ".safetensors") return std::nullopt;
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool is_model_folder(const fs::path& folder) { return is_file(folder / "config.json"); }

Result<std::vector<fs::path>> weight_paths(const fs::path& folder) {
  QUERN_TRY(const Index files, weight_files(folder));
  std::vector<fs::path> out;
  for (const auto& [name, tensors] : files) out.push_back(folder / name);
  return out;
}

Result<const Json*> template_in(const Json& config) {
  const Json* text = config.find("chat_template");
  if (!text || text->is_null()) return nullptr;
  if (text->is_string()) return text;
  if (!text->is_array())
    return make_error(ErrorCode::corrupt_data, "chat_template: expected a string or a list of templates");
  for (const Json& named : text->array()) {
    const Json *name = named.find("name"), *body = named.find("template");
    if (!name || !name->is_string() || !body || !body->is_string())
      return make_error(ErrorCode::corrupt_data, "chat_template: expected a list of {{name, template}}");
    if (name->string() == "default") return body;
  }
  return make_error(ErrorCode::not_found, "chat_template: expected one named default, found {} others",
                    text->array().size());
}

Result<Folder> Folder::open(const fs::path& given) {
  auto impl = std::make_unique<Impl>();
  QUERN_TRY(impl->path, existing_folder(given));
  const fs::path& path = impl->path;
  if (!is_model_folder(path))
    return make_error(ErrorCode::not_found, "{}: expected a model folder with config.json and {}, found no config.json",
                      path.string(), kSingle);
  QUERN_TRY(impl->config, read_json(path / "config.json", kMostConfigBytes));
  if (is_file(path / "generation_config.json")) {
    QUERN_TRY(impl->generation_config, read_json(path / "generation_config.json", kMostConfigBytes));
  }
  QUERN_TRY(auto shards, open_shards(path));
  if (given != path && given.extension() == ".safetensors" && !shards.contains(given.filename().string()))
    return make_error(ErrorCode::invalid_argument,
                      "{}: expected one of the folder's files of weights, which begin with {}", given.string(),
                      shards.begin()->first);
  for (auto& [name, shard] : shards) {
    impl->bytes += static_cast<int64_t>(shard.map.bytes().size());
    impl->names.push_back(name);
    impl->maps.push_back(std::move(shard.map));
    std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(impl->tensors));
  }
  auto& tensors = impl->tensors;
  std::sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].name == tensors[i - 1].name)
      return make_error(ErrorCode::corrupt_data, "{}: tensor {} stands in two files", path.string(),
                        printable(tensors[i].name));
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
std::vector<fs::path> Folder::weight_paths() const {
  std::vector<fs::path> out;
  for (const std::string& name : impl_->names) out.push_back(impl_->path / name);
  return out;
}

int64_t Folder::file_bytes() const { return impl_->bytes; }

const Tensor* Folder::find(std::string_view name) const {
  const auto it = std::lower_bound(impl_->tensors.begin(), impl_->tensors.end(), name,
                                   [](const Tensor& t, std::string_view n) { return t.name < n; });
  return it != impl_->tensors.end() && it->name == name ? &*it : nullptr;
}

void Folder::let_go(std::span<const std::byte> piece) const {
  for (const MappedFile& map : impl_->maps) map.let_go(piece);
}

void Folder::read_ahead(const std::byte* from, size_t bytes) const {
  for (const MappedFile& map : impl_->maps) map.read_ahead(from, bytes);
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
    QUERN_TRY(std::string text, read_text_file(path, kMostConfigBytes));
    return std::optional(std::move(text));
  }
  // Multimodal models have theirs in a file of the same form.
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const fs::path path = impl_->path / name;
    if (!is_file(path)) continue;
    QUERN_TRY(const Json config, read_json(path, kMostTokenizerConfigBytes));
    auto found = template_in(config);
    if (!found) return std::move(found).error().in(path.string());
    if (*found) return std::optional((*found)->string());
  }
  return std::optional<std::string>();
}

}  // namespace quern::safetensors
