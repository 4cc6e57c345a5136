// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "quern/safetensors/folder.h"

namespace quern::safetensors {
namespace {

constexpr uint64_t kMostHeaderBytes = 100'000'000;

Error corrupt(std::string message) { return {ErrorCode::corrupt_data, std::move(message)}; }

struct Dtype {
  std::string_view name;
  int bits;
};
constexpr Dtype kDtypes[] = {{"BOOL", 8}, {"U8", 8}, {"I8", 8}, {"U16", 16}, {"I16", 16}, {"F16", 16}, {"BF16", 16}, {"U32", 32},
                             {"I32", 32}, {"F32", 32}, {"U64", 64}, {"I64", 64}, {"F64", 64}, {"C64", 64}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
                             {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}};

struct Placed {
  Tensor tensor;
  uint64_t begin, end;
};

/// Sizes are listed slowest first there, fastest first here. A scalar has rank 1 and one number.
Status read_shape(std::string_view name, const Json& sizes, Shape& shape, uint64_t& elements) {
  if (!sizes.is_array()) return corrupt(fmt::format("{}: expected a list as shape", name));
  if (sizes.array().size() > 4)
    return make_error(ErrorCode::unsupported, "{}: expected at most 4 dimensions, found {}", name, sizes.array().size());
  shape = Shape();
  shape.rank = std::max<int>(1, static_cast<int>(sizes.array().size()));
  elements = 1;
  int d = static_cast<int>(sizes.array().size());
  for (const Json& size : sizes.array()) {
    if (!size.is_integer() || size.integer() < 0 || size.integer() > int64_t{1} << 40 ||
        __builtin_mul_overflow(elements, static_cast<uint64_t>(size.integer()), &elements) || elements > uint64_t{1} << 48)
      return corrupt(fmt::format("{}: a dimension is out of range: {}", name, sizes.dump()));
    shape.ne[--d] = size.integer();
  }
  return {};
}

Result<Placed> read_entry(std::string_view name, const Json& entry) {
  const Json* dtype = entry.find("dtype");
  const Json* shape = entry.find("shape");
  const Json* offsets = entry.find("data_offsets");
  if (!dtype || !dtype->is_string() || !shape || !offsets || !offsets->is_array() || offsets->array().size() != 2)
    return corrupt(fmt::format("{}: expected dtype, shape and data_offsets", name));
  const auto known = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) { return d.name == dtype->string(); });
  if (known == std::end(kDtypes)) return make_error(ErrorCode::unsupported, "{}: unknown dtype {}", name, json_quote(dtype->string()));
  const Json &first = offsets->array()[0], &last = offsets->array()[1];
  if (!first.is_integer() || !last.is_integer() || first.integer() < 0 || last.integer() < first.integer())
    return corrupt(fmt::format("{}: expected data_offsets [begin, end], found {}", name, offsets->dump()));
  Placed out{{std::string(name), known->name, {}}, static_cast<uint64_t>(first.integer()), static_cast<uint64_t>(last.integer())};
  uint64_t elements = 0;
  QUERN_TRY_STATUS(read_shape(name, *shape, out.tensor.view.shape, elements));
  const uint64_t bits = elements * known->bits;  // below 2^54
  if (bits % 8 != 0 || out.end - out.begin != bits / 8)
    return corrupt(fmt::format("{}: {} of {} takes {} bytes, data_offsets give {}", name, known->name, shape->dump(), (bits + 7) / 8, out.end - out.begin));
  out.tensor.view.type = known->name == "F32" ? &quant_f32 : known->name == "F16" ? &quant_f16 : known->name == "BF16" ? &quant_bf16 : nullptr;
  return out;
}

/// No holes, no overlaps, nothing behind the last.
Result<std::vector<Tensor>> place_tensors(const Json& header, std::span<const std::byte> data) {
  std::vector<Placed> placed;
  for (const auto& [name, entry] : header.object()) {
    if (name == "__metadata__") continue;
    QUERN_TRY(Placed tensor, read_entry(name, entry));
    placed.push_back(std::move(tensor));
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  uint64_t at = 0;
  for (Placed& p : placed) {
    if (p.begin != at) return corrupt(fmt::format("{}: expected data from byte {}, found {}: a hole or an overlap", p.tensor.name, at, p.begin));
    if (p.end > data.size())
      return corrupt(fmt::format("{}: data up to byte {}, the file has {}", p.tensor.name, p.end, data.size()));
    p.tensor.view.data = data.subspan(p.begin, p.end - p.begin);
    at = p.end;
  }
  if (at != data.size()) return corrupt(fmt::format("expected {} bytes of data, found {}", at, data.size()));
  std::vector<Tensor> out;
  for (Placed& p : placed) out.push_back(std::move(p.tensor));
  return out;
}

}  // namespace

Result<std::vector<Tensor>> parse_file(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) return corrupt("header length: the file ends here");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMostHeaderBytes) return corrupt(fmt::format("header: expected at most {} bytes, found {}", kMostHeaderBytes, length));
  if (length > bytes.size() - 8) return corrupt(fmt::format("header: {} bytes, the file has {} after its length", length, bytes.size() - 8));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  if (!text.starts_with('{')) return corrupt("header: expected a JSON object that starts with {");
  auto json = Json::parse(text, /*unique_keys=*/true);
  if (!json) return std::move(json).error().in("header");
  return place_tensors(*json, bytes.subspan(8 + length));
}

}  // namespace quern::safetensors
