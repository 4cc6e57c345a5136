// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/parser.h"

#include <algorithm>
#include <bit>

#include "quern/io/printable.h"

namespace quern::gguf {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr size_t kLongestKey = 65535;
constexpr size_t kLongestTensorName = 64;
constexpr uint64_t kMostDims = 4;
constexpr uint32_t kDefaultAlignment = 32;
/// Far beyond any model, far below where a product of sizes could wrap.
constexpr uint64_t kLargestDim = uint64_t{1} << 40, kMostElements = uint64_t{1} << 48;
/// Smallest entry: length and one byte of key, type, one byte; smallest tensor: name alike, rank, one size, type,
/// offset.
constexpr uint64_t kLeastEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

int scalar_bytes(ValueType type) {
  static constexpr int sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[static_cast<uint32_t>(type)];
}

/// Types that other programs write and this one does not read. Ids above 40 mean different things in different forks.
std::string foreign_type_name(uint32_t id) {
  struct Foreign {
    uint32_t id;
    const char* name;
  };
  static constexpr Foreign known[] = {{4, "Q4_2, since removed"},
                                      {5, "Q4_3, since removed"},
                                      {9, "Q8_1"},
                                      {15, "Q8_K"},
                                      {16, "IQ2_XXS"},
                                      {17, "IQ2_XS"},
                                      {18, "IQ3_XXS"},
                                      {19, "IQ1_S"},
                                      {21, "IQ3_S"},
                                      {22, "IQ2_S"},
                                      {24, "I8"},
                                      {25, "I16"},
                                      {26, "I32"},
                                      {27, "I64"},
                                      {28, "F64"},
                                      {29, "IQ1_M"},
                                      {31, "Q4_0_4_4"},
                                      {32, "Q4_0_4_8"},
                                      {33, "Q4_0_8_8"},
                                      {34, "TQ1_0"},
                                      {35, "TQ2_0"},
                                      {36, "IQ4_NL_4_4 or I2_S"},
                                      {40, "NVFP4"},
                                      {41, "Q1_0"},
                                      {42, "Q2_0"}};
  for (const Foreign& f : known)
    if (f.id == id) return fmt::format("type {} ({})", id, f.name);
  if ((id >= 97 && id <= 99) || (id >= 133 && id <= 158) || (id >= 202 && id <= 399))
    return fmt::format("type {} (of the fork ik_llama.cpp)", id);
  return fmt::format("unknown type {}", id);
}

Error corrupt(std::string message) { return {ErrorCode::corrupt_data, std::move(message)}; }
Error truncated(std::string_view where) { return corrupt(fmt::format("{}: the file ends here", printable(where))); }

/// The old formats and the files that people take for a model, by name.
Error wrong_magic(std::span<const std::byte> bytes) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 64));
  if (is_lfs_pointer(start))
    return corrupt("expected a GGUF file, found a Git LFS pointer: the content was not downloaded");
  if (start.starts_with("FUGG")) return Error{ErrorCode::unsupported, "big-endian GGUF is not supported"};
  for (std::string_view old : {"ggjt", "tjgg", "GGJT", "fmgg", "lmgg", "algg"})
    if (start.starts_with(old))
      return Error{ErrorCode::unsupported, "magic: expected GGUF, found the format before it: no GGUF file"};
  return corrupt(fmt::format("magic: expected GGUF, found {}: no GGUF file", printable(start.substr(0, 4))));
}

}  // namespace

const Value* Part::find(std::string_view key) const {
  for (const Entry& entry : metadata)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

Result<Part> Parser::parse(std::span<const std::byte> bytes) {
  Parser parser(bytes);
  QUERN_TRY_STATUS(parser.header());
  QUERN_TRY_STATUS(parser.entries());
  QUERN_TRY_STATUS(parser.tensors());
  return std::move(parser.part_);
}

Status Parser::header() {
  const auto magic = in_.read<uint32_t>();
  if (!magic) return truncated("magic");
  if (*magic != kMagic) return wrong_magic(bytes_);
  const auto version = in_.read<uint32_t>();
  if (!version) return truncated("version");
  if (*version != 0 && (*version & 0xFFFF) == 0)
    return Error{ErrorCode::unsupported, "big-endian GGUF is not supported"};
  if (*version != 2 && *version != 3)
    return make_error(ErrorCode::unsupported, "version: expected 2 or 3, found {}", *version);
  part_.version = *version;
  const auto n_tensors = in_.read<uint64_t>(), n_entries = in_.read<uint64_t>();
  if (!n_tensors || !n_entries) return truncated("counts");
  if (*n_tensors > in_.left() / kLeastTensorBytes)
    return corrupt(fmt::format("tensor count: {} of them do not fit into {} bytes", *n_tensors, in_.left()));
  if (*n_entries > in_.left() / kLeastEntryBytes)
    return corrupt(fmt::format("metadata count: {} of them do not fit into {} bytes", *n_entries, in_.left()));
  n_tensors_ = *n_tensors, n_entries_ = *n_entries;
  return {};
}

Status Parser::entries() {
  for (uint64_t i = 0; i < n_entries_; ++i) {
    const auto key = in_.read_string();
    if (!key) return truncated(fmt::format("metadata key {}", i));
    if (key->empty() || key->size() > kLongestKey)
      return corrupt(fmt::format("metadata key {}: expected 1 to {} bytes, found {}", i, kLongestKey, key->size()));
    const auto type = in_.read<uint32_t>();
    if (!type) return truncated(*key);
    if (*type > static_cast<uint32_t>(ValueType::f64))
      return corrupt(fmt::format("{}: expected a value type from 0 to 12, found {}", printable(*key), *type));
    Entry entry{*key, {}};
    entry.value.type_ = static_cast<ValueType>(*type);
    QUERN_TRY_STATUS(value(entry.value, *key));
    part_.metadata.push_back(std::move(entry));
  }
  return {};
}

Status Parser::value(Value& value, std::string_view key) {
  if (value.type_ == ValueType::array) return array(value, key);
  if (value.type_ == ValueType::string) {
    const auto text = in_.read_string();
    if (!text) return truncated(key);
    value.strings_.push_back(*text);
    return {};
  }
  const auto data = in_.take(scalar_bytes(value.type_));
  if (!data) return truncated(key);
  value.data_ = *data;
  if (value.type_ == ValueType::boolean && static_cast<uint8_t>((*data)[0]) > 1)
    return corrupt(
        fmt::format("{}: expected a bool of 0 or 1, found {}", printable(key), static_cast<int>((*data)[0])));
  return {};
}

Status Parser::array(Value& value, std::string_view key) {
  const auto type = in_.read<uint32_t>();
  const auto count = in_.read<uint64_t>();
  if (!type || !count) return truncated(key);
  if (*type > static_cast<uint32_t>(ValueType::f64) || *type == static_cast<uint32_t>(ValueType::array))
    return make_error(ErrorCode::unsupported, "{}: expected an array of numbers or strings, found elements of type {}",
                      printable(key), *type);
  value.element_ = static_cast<ValueType>(*type);
  const bool strings = value.element_ == ValueType::string;
  const uint64_t least = strings ? 8 : scalar_bytes(value.element_);
  if (*count > in_.left() / least)
    return corrupt(fmt::format("{}: {} elements do not fit into {} bytes", printable(key), *count, in_.left()));
  value.count_ = static_cast<int64_t>(*count);
  if (!strings) {
    value.data_ = *in_.take(*count * least);
    if (value.element_ == ValueType::boolean &&
        std::any_of(value.data_.begin(), value.data_.end(), [](std::byte b) { return static_cast<uint8_t>(b) > 1; }))
      return corrupt(fmt::format("{}: expected bools of 0 or 1, found another number", printable(key)));
    return {};
  }
  value.strings_.reserve(*count);
  for (uint64_t i = 0; i < *count; ++i) {
    const auto text = in_.read_string();
    if (!text) return truncated(key);
    value.strings_.push_back(*text);
  }
  return {};
}

Result<uint64_t> Parser::alignment() const {
  const Value* value = part_.find("general.alignment");
  if (!value) return uint64_t{kDefaultAlignment};
  const auto n = value->integer();
  if (value->is_array() || !n || *n < 8 || !std::has_single_bit(static_cast<uint64_t>(*n)) || *n > int64_t{1} << 30)
    return corrupt(fmt::format("general.alignment: expected a power of two from 8, found {}",
                               n ? std::to_string(*n) : "no integer"));
  return static_cast<uint64_t>(*n);
}

Result<Parser::Placed> Parser::tensor_info() {
  const auto name = in_.read_string();
  const auto rank = in_.read<uint32_t>();
  if (!name || !rank) return truncated("tensor directory");
  const auto shown = [&] { return printable(*name); };
  if (name->empty() || name->size() > kLongestTensorName)
    return corrupt(fmt::format("tensor directory: {}: expected a name of 1 to {} bytes, found {}", printable(*name),
                               kLongestTensorName, name->size()));
  if (*rank < 1 || *rank > kMostDims)
    return corrupt(fmt::format("{}: expected 1 to 4 dimensions, found {}", shown(), *rank));
  Placed out{{*name, {}}, 0, 0};
  Shape& shape = out.tensor.view.shape;
  shape.rank = static_cast<int>(*rank);
  uint64_t elements = 1;
  for (uint32_t d = 0; d < *rank; ++d) {
    const auto n = in_.read<uint64_t>();
    if (!n) return truncated(*name);
    if (*n == 0 || *n > kLargestDim || __builtin_mul_overflow(elements, *n, &elements) || elements > kMostElements)
      return corrupt(fmt::format("{}: dimension {} of {} is out of range", shown(), d, *n));
    shape.ne[d] = static_cast<int64_t>(*n);
  }
  const auto type = in_.read<uint32_t>();
  const auto offset = in_.read<uint64_t>();
  if (!type || !offset) return truncated(*name);
  const QuantType* quant = find_quant_type(*type);
  if (!quant) return make_error(ErrorCode::unsupported, "{}: {} is not supported", shown(), foreign_type_name(*type));
  if (shape.columns() % quant->block_elems != 0)
    return corrupt(fmt::format("{}: expected rows of whole {} blocks of {}, found rows of {}", shown(), quant->name,
                               quant->block_elems, shape.columns()));
  out.tensor.view.type = quant;
  out.offset = *offset;
  out.bytes = elements / quant->block_elems * quant->block_bytes;  // below 2^51
  return out;
}

Status Parser::tensors() {
  std::vector<Placed> infos;
  infos.reserve(n_tensors_);
  for (uint64_t i = 0; i < n_tensors_; ++i) {
    QUERN_TRY(Placed info, tensor_info());
    infos.push_back(std::move(info));
  }
  return place(infos);
}

/// Gives every tensor its bytes: aligned, inside the file, no two over each other.
Status Parser::place(std::vector<Placed>& infos) {
  QUERN_TRY(const uint64_t align, alignment());
  const uint64_t start = (in_.position() + align - 1) / align * align;
  const uint64_t room = start < bytes_.size() ? bytes_.size() - start : 0;
  std::vector<const Placed*> order;
  for (Placed& info : infos) {
    if (info.offset % align != 0)
      return corrupt(fmt::format("{}: expected an offset of a multiple of {}, found {}", printable(info.tensor.name),
                                 align, info.offset));
    if (info.offset > room || info.bytes > room - info.offset)
      return corrupt(fmt::format("{}: {} bytes at offset {} lie beyond the {} bytes of data in the file",
                                 printable(info.tensor.name), info.bytes, info.offset, room));
    info.tensor.view.data = bytes_.subspan(start + info.offset, info.bytes);
    order.push_back(&info);
  }
  std::sort(order.begin(), order.end(), [](const Placed* a, const Placed* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
      return corrupt(fmt::format("{} and {} lie over each other", printable(order[i - 1]->tensor.name),
                                 printable(order[i]->tensor.name)));
  for (Placed& info : infos) part_.tensors.push_back(std::move(info.tensor));
  return {};
}

}  // namespace quern::gguf
