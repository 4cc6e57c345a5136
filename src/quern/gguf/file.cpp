// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/file.h"

#include <algorithm>
#include <charconv>

#include "quern/gguf/parser.h"
#include "quern/io/mapped_file.h"
#include "quern/io/printable.h"

namespace quern::gguf {

namespace fs = std::filesystem;

namespace {

/// Places of names in a list, sorted by name. Not hashed: a file could be made so that all its names fall together.
class NameIndex {
 public:
  /// The name that stands twice is an error.
  template <typename Items, typename Name>
  Status build(const Items& items, Name name, std::string_view what) {
    places_.reserve(items.size());
    for (const auto& item : items) places_.push_back({name(item), places_.size()});
    std::sort(places_.begin(), places_.end());
    for (size_t i = 1; i < places_.size(); ++i)
      if (places_[i - 1].name == places_[i].name)
        return make_error(ErrorCode::corrupt_data, "{} {} stands twice", what, printable(places_[i].name));
    return {};
  }

  std::optional<size_t> find(std::string_view name) const {
    const auto at = std::lower_bound(places_.begin(), places_.end(), Place{name, 0});
    return at != places_.end() && at->name == name ? std::optional(at->index) : std::nullopt;
  }

 private:
  struct Place {
    std::string_view name;
    size_t index;
    auto operator<=>(const Place&) const = default;
  };
  std::vector<Place> places_;
};

/// A file's place in its set: part `number` of `count`; count 0 or 1: not split. `tensors`: of all parts.
struct Split {
  int64_t number = 0, count = 0;
  std::optional<int64_t> tensors;
};

constexpr int64_t kMostParts = 65535;

/// A number of five digits.
std::optional<int64_t> five_digits(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return text.size() == 5 && text[0] != '-' && end == text.data() + 5 ? std::optional(number) : std::nullopt;
}

Result<std::optional<int64_t>> split_number(const Part& part, std::string_view key, int64_t high) {
  const Value* value = part.find(key);
  if (!value) return std::optional<int64_t>();
  const auto n = value->is_array() ? std::nullopt : value->integer();
  if (!n || *n < 0 || *n > high)
    return make_error(ErrorCode::corrupt_data, "{}: expected 0 to {}, found {}", key, high,
                      n ? std::to_string(*n) : std::string(value_type_name(value->type())));
  return n;
}

Result<Split> read_split(const Part& part) {
  QUERN_TRY(const auto count, split_number(part, "split.count", kMostParts));
  QUERN_TRY(const auto number, split_number(part, "split.no", kMostParts - 1));
  QUERN_TRY(const auto tensors, split_number(part, "split.tensors.count", INT32_MAX));
  Split out{number.value_or(0), count.value_or(0), tensors};
  if (out.count > 1 && out.number >= out.count)
    return make_error(ErrorCode::corrupt_data, "split.no: expected less than {}, found {}", out.count, out.number);
  return out;
}

std::string part_ending(int64_t number, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

fs::path part_path(const fs::path& beside, const PartName& name, int64_t number) {
  return beside.parent_path() / (name.prefix + part_ending(number, name.count));
}

/// The name of a part, which says the same as its metadata.
Result<PartName> checked_name(const fs::path& path, const Split& split) {
  auto name = part_name(path);
  if (!name || name->number != split.number || name->count != split.count)
    return make_error(ErrorCode::corrupt_data, "expected a name that ends in {} as its metadata says, found {}",
                      part_ending(split.number, split.count), printable(path.filename().string()));
  return *std::move(name);
}

struct OpenPart {
  fs::path path;
  MappedFile map;
  Part part;
  Split split;
};

Result<OpenPart> open_part(const fs::path& path) {
  QUERN_TRY(MappedFile map, MappedFile::open(path));
  auto part = Parser::parse(map.bytes());
  if (!part) return std::move(part).error().in(path.string());
  auto split = read_split(*part);
  if (!split) return std::move(split).error().in(path.string());
  return OpenPart{path, std::move(map), *std::move(part), *std::move(split)};
}

/// All parts in order, each where and what the first one opened says.
Result<std::vector<OpenPart>> open_parts(const fs::path& path) {
  QUERN_TRY(OpenPart opened, open_part(path));
  std::vector<OpenPart> parts;
  if (opened.split.count <= 1) {
    parts.push_back(std::move(opened));
    return parts;
  }
  const Split own = opened.split;
  const auto name = checked_name(path, own);
  if (!name) return name.error().in(path.string());
  for (int64_t i = 0; i < own.count; ++i) {
    if (i == own.number) continue;
    auto part = open_part(part_path(path, *name, i));
    if (!part) return std::move(part).error().in(fmt::format("part {} of {}", i + 1, own.count));
    if (part->split.number != i || part->split.count != own.count)
      return make_error(ErrorCode::corrupt_data, "{}: expected part {} of {}, found {} of {}", part->path.string(),
                        i + 1, own.count, part->split.number + 1, part->split.count);
    parts.push_back(*std::move(part));
  }
  parts.insert(parts.begin() + own.number, std::move(opened));
  return parts;
}

/// The tensors that every part says there are in all are there.
Status check_total(const std::vector<OpenPart>& parts) {
  if (parts.size() == 1) return {};
  int64_t found = 0;
  for (const OpenPart& part : parts) found += static_cast<int64_t>(part.part.tensors.size());
  for (const OpenPart& part : parts)
    if (part.split.tensors && *part.split.tensors != found)
      return make_error(ErrorCode::corrupt_data, "{}: split.tensors.count: expected {} tensors in all parts, found {}",
                        part.path.string(), *part.split.tensors, found);
  return {};
}

}  // namespace

std::optional<PartName> part_name(const fs::path& path) {
  constexpr std::string_view kEnding = "-00001-of-00002.gguf";
  const std::string name = path.filename().string();
  if (name.size() < kEnding.size()) return std::nullopt;
  const std::string_view ending = std::string_view(name).substr(name.size() - kEnding.size());
  const auto place = five_digits(ending.substr(1, 5)), count = five_digits(ending.substr(10, 5));
  if (!place || !count || *place < 1 || *place > *count || *count > kMostParts) return std::nullopt;
  if (ending != part_ending(*place - 1, *count)) return std::nullopt;
  return PartName{name.substr(0, name.size() - kEnding.size()), *place - 1, *count};
}

std::vector<fs::path> part_paths(const fs::path& path) {
  const auto name = part_name(path);
  if (!name) return {path};
  std::vector<fs::path> out;
  for (int64_t i = 0; i < name->count; ++i) out.push_back(i == name->number ? path : part_path(path, *name, i));
  return out;
}

struct File::Impl {
  std::vector<MappedFile> maps;  // everything else looks into them
  std::vector<fs::path> paths;
  Part part;  // metadata of the first, tensors of all
  NameIndex keys, names;
  int64_t bytes = 0;

  void add(OpenPart&& opened) {
    bytes += static_cast<int64_t>(opened.map.bytes().size());
    maps.push_back(std::move(opened.map));
    paths.push_back(std::move(opened.path));
    if (paths.size() == 1) {
      part = std::move(opened.part);
      return;
    }
    auto& more = opened.part.tensors;
    part.tensors.insert(part.tensors.end(), more.begin(), more.end());
  }

  Status index() {
    QUERN_TRY_STATUS(keys.build(part.metadata, [](const Entry& entry) { return entry.key; }, "metadata key"));
    return names.build(part.tensors, [](const Tensor& tensor) { return tensor.name; }, "tensor");
  }
};

Result<File> File::open(const fs::path& path) {
  QUERN_TRY(auto parts, open_parts(path));
  QUERN_TRY_STATUS(check_total(parts));
  auto impl = std::make_unique<Impl>();
  for (OpenPart& part : parts) impl->add(std::move(part));
  if (Status indexed = impl->index(); !indexed) return std::move(indexed).error().in(path.string());
  return File(std::move(impl));
}

Result<File> File::parse(std::span<const std::byte> bytes) {
  auto impl = std::make_unique<Impl>();
  QUERN_TRY(impl->part, Parser::parse(bytes));
  QUERN_TRY(const Split split, read_split(impl->part));
  if (split.count > 1)
    return make_error(ErrorCode::unsupported, "split.count: expected a whole file, found part {} of {}",
                      split.number + 1, split.count);
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
std::span<const fs::path> File::paths() const { return impl_->paths; }

const Value* File::find(std::string_view key) const {
  const auto at = impl_->keys.find(key);
  return at ? &impl_->part.metadata[*at].value : nullptr;
}

const TensorView* File::find_tensor(std::string_view name) const {
  const auto at = impl_->names.find(name);
  return at ? &impl_->part.tensors[*at].view : nullptr;
}

namespace {

/// `get` on the value of a key, or an error that names the key and what was expected.
template <typename T>
Result<T> required(const Value* value, std::string_view key, std::string_view expected,
                   std::optional<T> (Value::*get)(int64_t) const) {
  if (!value) return make_error(ErrorCode::not_found, "{}: expected {}, found no such key", key, expected);
  if (!value->is_array())
    if (auto got = (value->*get)(0)) return *got;
  return make_error(ErrorCode::corrupt_data, "{}: expected {}, found {}", key, expected,
                    value_type_name(value->type()));
}

}  // namespace

Result<int64_t> File::integer(std::string_view key) const {
  return required(find(key), key, "an integer", &Value::integer);
}
Result<double> File::number(std::string_view key) const { return required(find(key), key, "a number", &Value::number); }
Result<std::string_view> File::string(std::string_view key) const {
  return required(find(key), key, "a string", &Value::string);
}

void File::let_go(std::span<const std::byte> piece) const {
  for (const MappedFile& map : impl_->maps) map.let_go(piece);
}

void File::read_ahead(const std::byte* from, size_t bytes) const {
  for (const MappedFile& map : impl_->maps) map.read_ahead(from, bytes);
}

}  // namespace quern::gguf
