// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/io/byte_reader.h"
#include "quern/io/printable.h"
#include "quern/safetensors/folder.h"

namespace quern::safetensors {
namespace {

constexpr uint64_t kMostHeaderBytes = 100'000'000;  // the format's own limit
/// JSON values in a header, some 15 for each tensor: bounds what parsing allocates, 40 bytes each.
constexpr int64_t kMostHeaderValues = 8'000'000;
constexpr size_t kMostDims = 16;
/// Far beyond any model, far below where a product of sizes could wrap.
constexpr int64_t kLargestDim = int64_t{1} << 40, kMostElements = int64_t{1} << 48;

Error corrupt(std::string message) { return {ErrorCode::corrupt_data, std::move(message)}; }

struct Dtype {
  std::string_view name;
  int bits;
  const QuantType* type;  // null: no weight type here
};

constexpr Dtype kDtypes[] = {
    {"BOOL", 8, nullptr},    {"U8", 8, nullptr},          {"I8", 8, nullptr},          {"U16", 16, nullptr},
    {"I16", 16, nullptr},    {"F16", 16, &quant_f16},     {"BF16", 16, &quant_bf16},   {"U32", 32, nullptr},
    {"I32", 32, nullptr},    {"F32", 32, &quant_f32},     {"U64", 64, nullptr},        {"I64", 64, nullptr},
    {"F64", 64, nullptr},    {"C64", 64, nullptr},        {"F8_E4M3", 8, nullptr},     {"F8_E5M2", 8, nullptr},
    {"F8_E8M0", 8, nullptr}, {"F8_E4M3FNUZ", 8, nullptr}, {"F8_E5M2FNUZ", 8, nullptr}, {"F4", 4, nullptr},
    {"F6_E2M3", 6, nullptr}, {"F6_E3M2", 6, nullptr}};

std::string shown(const Json& value) {
  const std::string text = value.dump();
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

/// A tensor and where its data lies behind the header.
struct Placed {
  Tensor tensor;
  uint64_t begin, end;
};

/// Sizes are listed slowest first there, fastest first here. A scalar has rank 1 and one number; what goes beyond four
/// dimensions (the kernels of vision models) is folded into the slowest. Elements: 0 where a size is 0.
Status read_shape(const Json& sizes, Shape& shape, int64_t& elements) {
  if (!sizes.is_array() || sizes.array().size() > kMostDims)
    return corrupt(fmt::format("shape: expected a list of up to {} sizes, found {}", kMostDims, shown(sizes)));
  const Json::Array& list = sizes.array();
  shape.rank = std::clamp<int>(static_cast<int>(list.size()), 1, 4);
  int64_t product = 1;  // of the sizes that are not 0, so that no part of the shape's product wraps either
  bool empty = false;
  for (size_t d = 0; d < list.size(); ++d) {
    const Json& size = list[list.size() - 1 - d];
    const int64_t n = size.is_integer() ? size.integer() : -1;
    if (n < 0 || n > kLargestDim)
      return corrupt(fmt::format("shape: expected sizes up to 2^40, found {}", shown(sizes)));
    const auto next = checked_product(product, std::max<int64_t>(n, 1));
    if (!next || *next > kMostElements)
      return corrupt(fmt::format("shape: expected up to 2^48 elements, found {}", shown(sizes)));
    product = *next;
    empty = empty || n == 0;
    shape.ne[std::min<size_t>(d, 3)] *= n;
  }
  elements = empty ? 0 : product;
  return {};
}

Result<Placed> read_entry(const std::string& name, const Json& entry) {
  const Json* dtype = entry.find("dtype");
  const Json* shape = entry.find("shape");
  const Json* offsets = entry.find("data_offsets");
  if (!dtype || !dtype->is_string() || !shape || !offsets || !offsets->is_array() || offsets->array().size() != 2)
    return corrupt(fmt::format("expected dtype, shape and data_offsets, found {}", shown(entry)));
  const auto known =
      std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) { return d.name == dtype->string(); });
  if (known == std::end(kDtypes))
    return make_error(ErrorCode::unsupported, "dtype: expected a known number format, found {}",
                      printable(dtype->string()));
  const Json &first = offsets->array()[0], &last = offsets->array()[1];
  if (!first.is_integer() || !last.is_integer() || first.integer() < 0 || last.integer() < first.integer())
    return corrupt(fmt::format("data_offsets: expected [begin, end], found {}", shown(*offsets)));
  Placed out{{name, known->name, {}}, static_cast<uint64_t>(first.integer()), static_cast<uint64_t>(last.integer())};
  int64_t elements = 0;
  QUERN_TRY_STATUS(read_shape(*shape, out.tensor.view.shape, elements));
  const uint64_t bits = static_cast<uint64_t>(elements) * known->bits;  // at most 2^54
  if (bits % 8 != 0 || out.end - out.begin != bits / 8)
    return corrupt(fmt::format("data_offsets: expected {} bits for {} of {}, found {} bytes", bits, known->name,
                               shown(*shape), out.end - out.begin));
  out.tensor.view.type = known->type;
  return out;
}

/// Texts by name, whatever they say.
Status check_metadata(const Json& metadata) {
  if (metadata.is_object() && std::all_of(metadata.object().begin(), metadata.object().end(),
                                          [](const auto& member) { return member.second.is_string(); }))
    return {};
  return corrupt(fmt::format("__metadata__: expected an object of strings, found {}", shown(metadata)));
}

/// Hands out the data behind the header: no holes, no overlaps, nothing after the last.
Result<std::vector<Tensor>> place_tensors(std::vector<Placed> placed, std::span<const std::byte> data) {
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::vector<Tensor> out;
  out.reserve(placed.size());
  uint64_t at = 0;
  for (Placed& p : placed) {
    if (p.begin != at)
      return corrupt(fmt::format("{}: data_offsets: expected data from byte {}, found {}: {}", printable(p.tensor.name),
                                 at, p.begin, p.begin > at ? "a hole" : "an overlap"));
    if (p.end > data.size())
      return corrupt(fmt::format("{}: data_offsets: expected at most {} bytes of data, found {}",
                                 printable(p.tensor.name), data.size(), p.end));
    p.tensor.view.data = data.subspan(p.begin, p.end - p.begin);
    at = p.end;
    out.push_back(std::move(p.tensor));
  }
  if (at != data.size())
    return corrupt(fmt::format("expected {} bytes of data behind the header, found {}", at, data.size()));
  return out;
}

Result<std::string_view> header_text(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (is_lfs_pointer(start.substr(0, 64)))
    return corrupt("expected a safetensors file, found a Git LFS pointer: the content was not downloaded");
  const auto length = in.read<uint64_t>();
  if (!length) return corrupt(fmt::format("expected the header's length in 8 bytes, found {} bytes", bytes.size()));
  if (*length > kMostHeaderBytes)
    return corrupt(fmt::format("header: expected at most {} bytes, found {}", kMostHeaderBytes, *length));
  const auto header = in.take(*length);
  if (!header)
    return corrupt(fmt::format("header: expected {} bytes, found {}: the file ends here", *length, in.left()));
  const std::string_view text(reinterpret_cast<const char*>(header->data()), header->size());
  if (!text.starts_with('{')) return corrupt("header: expected a JSON object that starts with {");
  const auto separates = [](char c) { return c == ',' || c == ':' || c == '[' || c == '{'; };
  if (std::count_if(text.begin(), text.end(), separates) > kMostHeaderValues)
    return make_error(ErrorCode::unsupported, "header: expected at most {} values, found more", kMostHeaderValues);
  return text;
}

}  // namespace

Result<std::vector<Tensor>> parse_file(std::span<const std::byte> bytes) {
  QUERN_TRY(const std::string_view text, header_text(bytes));
  auto header = Json::parse(text, /*unique_keys=*/true);
  if (!header) return std::move(header).error().in("header");
  std::vector<Placed> placed;
  for (const auto& [name, entry] : header->object()) {
    if (name == "__metadata__") {
      QUERN_TRY_STATUS(check_metadata(entry));
      continue;
    }
    auto tensor = read_entry(name, entry);
    if (!tensor) return std::move(tensor).error().in(printable(name));
    placed.push_back(*std::move(tensor));
  }
  return place_tensors(std::move(placed), bytes.subspan(8 + text.size()));
}

}  // namespace quern::safetensors
