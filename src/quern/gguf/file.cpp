// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/file.h"

#include <algorithm>
#include <unordered_map>

#include "quern/gguf/parser.h"
#include "quern/io/mapped_file.h"

namespace quern::gguf {

struct File::Impl {
  std::vector<MappedFile> maps;  // first: everything else looks into them
  std::vector<std::filesystem::path> paths;
  Part part;
  std::unordered_map<std::string_view, const Value*> values;
  std::unordered_map<std::string_view, const TensorView*> tensors;
  int64_t bytes = 0;

  /// Once all parts are in: vectors do not move any more.
  Status index() {
    for (const Entry& entry : part.metadata) values.emplace(entry.key, &entry.value);
    for (const Tensor& tensor : part.tensors)
      if (!tensors.emplace(tensor.name, &tensor.view).second)
        return make_error(ErrorCode::corrupt_data, "tensor '{}' stands in two parts", tensor.name);
    return {};
  }
};

namespace {

/// A split file's place in its set. Count 0: not split.
struct Split {
  int64_t number = 0, count = 0, tensors = 0;
};

Result<Split> read_split(const Part& part) {
  const auto whole = [&](std::string_view key, int64_t fallback, int64_t high) -> Result<int64_t> {
    const Value* value = part.find(key);
    if (!value) return fallback;
    const auto n = value->integer();
    if (!n || value->is_array() || *n < 0 || *n > high)
      return make_error(ErrorCode::corrupt_data, "{}: expected 0 to {}, found {}", key, high, n ? std::to_string(*n) : "no integer");
    return *n;
  };
  Split out;
  QUERN_TRY(out.count, whole("split.count", 0, 65535));
  QUERN_TRY(out.number, whole("split.no", 0, 65534));
  QUERN_TRY(out.tensors, whole("split.tensors.count", -1, INT32_MAX));
  return out;
}

/// The name of part `number` (from 0) beside one that ends in -0000N-of-0000M.gguf.
Result<std::filesystem::path> part_path(const std::filesystem::path& any, int64_t own, int64_t number, int64_t count) {
  const std::string name = any.filename().string();
  const std::string ending = fmt::format("-{:05}-of-{:05}.gguf", own + 1, count);
  if (!name.ends_with(ending))
    return make_error(ErrorCode::corrupt_data, "expected a name that ends in {} as its metadata says, found {}", ending, name);
  return any.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", name.substr(0, name.size() - ending.size()), number + 1, count);
}

struct OpenPart {
  MappedFile map;
  Part part;
};

Result<OpenPart> open_part(const std::filesystem::path& path) {
  QUERN_TRY(MappedFile map, MappedFile::open(path));
  auto part = Parser::parse(map.bytes());
  if (!part) return std::move(part).error().in(path.string());
  return OpenPart{std::move(map), *std::move(part)};
}

}  // namespace

Result<File> File::open(const std::filesystem::path& path) {
  QUERN_TRY(OpenPart first, open_part(path));
  auto impl = std::make_unique<Impl>();
  const auto add = [&](OpenPart&& opened, const std::filesystem::path& at) {
    impl->bytes += static_cast<int64_t>(opened.map.bytes().size());
    impl->maps.push_back(std::move(opened.map));
    impl->paths.push_back(at);
    if (impl->paths.size() == 1) {
      impl->part = std::move(opened.part);
    } else {
      auto& tensors = opened.part.tensors;
      impl->part.tensors.insert(impl->part.tensors.end(), std::make_move_iterator(tensors.begin()), std::make_move_iterator(tensors.end()));
    }
  };
  const auto fail = [&](Error error) { return std::move(error).in(path.string()); };
  auto split = read_split(first.part);
  if (!split) return fail(std::move(split).error());
  if (split->count <= 1) {
    add(std::move(first), path);
  } else {
    const Split own = *split;
    if (own.number >= own.count) return fail(make_error(ErrorCode::corrupt_data, "split.no: expected less than {}, found {}", own.count, own.number));
    int64_t total = own.tensors;
    for (int64_t i = 0; i < own.count; ++i) {
      auto at = part_path(path, own.number, i, own.count);
      if (!at) return fail(std::move(at).error());
      QUERN_TRY(OpenPart opened, open_part(*at));
      auto there = read_split(opened.part);
      if (!there) return std::move(there).error().in(at->string());
      if (there->number != i || there->count != own.count)
        return make_error(ErrorCode::corrupt_data, "{}: expected part {} of {}, found {} of {}", at->string(), i + 1, own.count, there->number + 1, there->count);
      if (i == 0 && there->tensors >= 0) total = there->tensors;
      add(std::move(opened), *at);
    }
    if (total >= 0 && total != static_cast<int64_t>(impl->part.tensors.size()))
      return fail(make_error(ErrorCode::corrupt_data, "split.tensors.count: expected {} tensors in all parts, found {}", total, impl->part.tensors.size()));
  }
  if (Status indexed = impl->index(); !indexed) return fail(std::move(indexed).error());
  return File(std::move(impl));
}

Result<File> File::parse(std::span<const std::byte> bytes) {
  auto impl = std::make_unique<Impl>();
  QUERN_TRY(impl->part, Parser::parse(bytes));
  impl->bytes = static_cast<int64_t>(bytes.size());
  QUERN_TRY_STATUS(impl->index());
  return File(std::move(impl));
}

File::File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
File::File(File&&) noexcept = default;
File& File::operator=(File&&) noexcept = default;
File::~File() = default;

std::span<const Entry> File::metadata() const { return impl_->part.metadata; }
std::span<const Tensor> File::tensors() const { return impl_->part.tensors; }
uint32_t File::version() const { return impl_->part.version; }
int64_t File::file_bytes() const { return impl_->bytes; }
std::span<const std::filesystem::path> File::paths() const { return impl_->paths; }

const Value* File::find(std::string_view key) const {
  const auto it = impl_->values.find(key);
  return it == impl_->values.end() ? nullptr : it->second;
}

const TensorView* File::find_tensor(std::string_view name) const {
  const auto it = impl_->tensors.find(name);
  return it == impl_->tensors.end() ? nullptr : it->second;
}

namespace {

/// `get` on the value of a key, or an error that names the key and what was expected.
template <typename T>
Result<T> required(const Value* value, std::string_view key, std::string_view expected, std::optional<T> (Value::*get)(int64_t) const) {
  if (!value) return make_error(ErrorCode::not_found, "{}: expected {}, found no such key", key, expected);
  if (!value->is_array())
    if (auto got = (value->*get)(0)) return *got;
  return make_error(ErrorCode::corrupt_data, "{}: expected {}, found {}", key, expected, value_type_name(value->type()));
}

}  // namespace

Result<int64_t> File::integer(std::string_view key) const { return required(find(key), key, "an integer", &Value::integer); }
Result<double> File::number(std::string_view key) const { return required(find(key), key, "a number", &Value::number); }
Result<std::string_view> File::string(std::string_view key) const { return required(find(key), key, "a string", &Value::string); }

}  // namespace quern::gguf
