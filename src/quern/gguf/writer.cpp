// SPDX-License-Identifier: Apache-2.0
#include "quern/gguf/writer.h"

#include <algorithm>
#include <cstring>

#include "quern/io/atomic_file.h"

namespace quern::gguf {
namespace {

/// Grows little-endian bytes.
class Bytes {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T>
  Bytes& number(T value) {
    return raw({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  Bytes& type(ValueType type) { return number(static_cast<uint32_t>(type)); }
  Bytes& string(std::string_view text) { return number<uint64_t>(text.size()).raw(std::as_bytes(std::span(text))); }
  Bytes& raw(std::span<const std::byte> bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Bytes& pad(uint64_t alignment) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::vector<std::byte> take() { return std::move(data_); }

 private:
  std::vector<std::byte> data_;
};

template <typename T>
std::vector<std::byte> scalar(ValueType type, T value) {
  return Bytes().type(type).number(value).take();
}

Bytes array(ValueType element, uint64_t count) {
  Bytes out;
  out.type(ValueType::array).type(element).number(count);
  return out;
}

uint64_t padded(uint64_t n, uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

}  // namespace

Writer::Writer(uint32_t alignment) : alignment_(alignment) {
  if (alignment != 32) set("general.alignment", alignment);
}

Writer& Writer::put(std::string_view key, std::vector<std::byte> value) {
  const auto old = std::find_if(fields_.begin(), fields_.end(), [&](const Field& f) { return f.key == key; });
  if (old != fields_.end())
    old->value = std::move(value);
  else
    fields_.push_back({std::string(key), std::move(value)});
  return *this;
}

Writer& Writer::set(std::string_view key, std::string_view text) {
  return put(key, Bytes().type(ValueType::string).string(text).take());
}
Writer& Writer::set(std::string_view key, bool value) { return put(key, scalar<uint8_t>(ValueType::boolean, value)); }
Writer& Writer::set(std::string_view key, uint32_t value) { return put(key, scalar(ValueType::u32, value)); }
Writer& Writer::set(std::string_view key, int32_t value) { return put(key, scalar(ValueType::i32, value)); }
Writer& Writer::set(std::string_view key, uint64_t value) { return put(key, scalar(ValueType::u64, value)); }
Writer& Writer::set(std::string_view key, int64_t value) { return put(key, scalar(ValueType::i64, value)); }
Writer& Writer::set(std::string_view key, double value) { return put(key, scalar(ValueType::f64, value)); }
Writer& Writer::set(std::string_view key, float value) { return put(key, scalar(ValueType::f32, value)); }

Writer& Writer::set(std::string_view key, std::span<const std::string> texts) {
  Bytes out = array(ValueType::string, texts.size());
  for (const std::string& text : texts) out.string(text);
  return put(key, out.take());
}

Writer& Writer::set(std::string_view key, std::span<const int32_t> values) {
  return put(key, array(ValueType::i32, values.size()).raw(std::as_bytes(values)).take());
}

Writer& Writer::set(std::string_view key, std::span<const uint32_t> values) {
  return put(key, array(ValueType::u32, values.size()).raw(std::as_bytes(values)).take());
}

Writer& Writer::set(std::string_view key, std::span<const float> values) {
  return put(key, array(ValueType::f32, values.size()).raw(std::as_bytes(values)).take());
}

Writer& Writer::set_bools(std::string_view key, const std::vector<bool>& values) {
  Bytes out = array(ValueType::boolean, values.size());
  for (bool value : values) out.number<uint8_t>(value);
  return put(key, out.take());
}

Writer& Writer::copy(const Entry& entry) {
  const Value& v = entry.value;
  Bytes out;
  out.type(v.type());
  if (v.is_array()) out.type(v.element_type()).number<uint64_t>(v.size());
  if (v.element_type() == ValueType::string) {
    for (int64_t i = 0; i < v.size(); ++i) out.string(*v.string(i));
  } else {
    out.raw(v.raw());
  }
  return put(entry.key, out.take());
}

Writer& Writer::add(std::string_view name, const Shape& shape, const QuantType& type, Fill fill) {
  QUERN_CHECK(!name.empty() && name.size() <= 64, "a name that no reader takes");
  QUERN_CHECK(shape.columns() % type.block_elems == 0, "a row of half blocks");
  QUERN_CHECK(std::none_of(items_.begin(), items_.end(), [&](const Item& i) { return i.name == name; }),
              "a tensor added twice");
  const uint64_t size = static_cast<uint64_t>(type.row_bytes(shape.columns()) * shape.rows());
  items_.push_back({std::string(name), shape, &type, data_bytes_, size, std::move(fill)});
  data_bytes_ += padded(size, alignment_);
  return *this;
}

Writer& Writer::add(std::string_view name, const Shape& shape, const QuantType& type, std::vector<std::byte> bytes) {
  QUERN_CHECK(static_cast<int64_t>(bytes.size()) == type.row_bytes(shape.columns()) * shape.rows(),
              "bytes that do not fit the shape");
  return add(name, shape, type, [bytes = std::move(bytes)](std::span<std::byte> out) -> Status {
    std::memcpy(out.data(), bytes.data(), out.size());
    return {};
  });
}

Writer& Writer::add(std::string_view name, const Shape& shape, const QuantType& type, std::span<const float> values) {
  QUERN_CHECK(type.encode, "a type that cannot encode");
  QUERN_CHECK(static_cast<int64_t>(values.size()) == shape.elements(), "values that do not fit the shape");
  std::vector<std::byte> bytes(type.row_bytes(shape.columns()) * shape.rows());
  type.encode(values.data(), bytes.data(), shape.elements() / type.block_elems);
  return add(name, shape, type, std::move(bytes));
}

std::vector<std::byte> Writer::header() const {
  Bytes out;
  out.number<uint32_t>(0x46554747).number<uint32_t>(3).number<uint64_t>(items_.size()).number<uint64_t>(fields_.size());
  for (const Field& field : fields_) out.string(field.key).raw(field.value);
  for (const Item& item : items_) {
    out.string(item.name).number<uint32_t>(item.shape.rank);
    for (int d = 0; d < item.shape.rank; ++d) out.number<uint64_t>(item.shape.ne[d]);
    out.number<uint32_t>(item.type->gguf_id).number<uint64_t>(item.offset);
  }
  return out.pad(alignment_).take();
}

Status Writer::each_piece(const std::function<Status(std::span<const std::byte>)>& out) const {
  QUERN_TRY_STATUS(out(header()));
  std::vector<std::byte> buffer;
  for (const Item& item : items_) {
    buffer.assign(padded(item.size, alignment_), std::byte{0});
    QUERN_TRY_STATUS(item.fill(std::span(buffer).first(item.size)));
    QUERN_TRY_STATUS(out(buffer));
  }
  return {};
}

Status Writer::write(const std::filesystem::path& path) const {
  QUERN_TRY(AtomicFile file, AtomicFile::create(path));
  QUERN_TRY_STATUS(each_piece([&](std::span<const std::byte> piece) { return file.write(piece); }));
  return file.commit();
}

Result<std::vector<std::byte>> Writer::bytes() const {
  std::vector<std::byte> out;
  QUERN_TRY_STATUS(each_piece([&](std::span<const std::byte> piece) -> Status {
    out.insert(out.end(), piece.begin(), piece.end());
    return {};
  }));
  return out;
}

}  // namespace quern::gguf
