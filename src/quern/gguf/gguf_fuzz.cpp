// SPDX-License-Identifier: Apache-2.0
// Whatever is accepted can be read to its last value and byte, lies inside the input, and survives being written again.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "quern/gguf/file.h"
#include "quern/gguf/writer.h"

namespace {

using quern::gguf::Entry;
using quern::gguf::File;
using quern::gguf::Tensor;

void require(bool condition) {
  if (!condition) __builtin_trap();
}

void read_metadata(const File& file) {
  for (const Entry& entry : file.metadata()) {
    require(file.find(entry.key) == &entry.value);
    for (int64_t i = 0; i < std::min<int64_t>(entry.value.size(), 1000); ++i) {
      const auto text = entry.value.string(i);
      const bool is_text = entry.value.element_type() == quern::gguf::ValueType::string;
      require(text.has_value() == is_text);
      // Touches every byte.
      if (text) require(std::count(text->begin(), text->end(), '\0') <= static_cast<int64_t>(text->size()));
      require(!(is_text && entry.value.number(i)) && (!entry.value.integer(i) || entry.value.number(i)));
      require(!entry.value.boolean(i) || entry.value.integer(i));
    }
    require(!entry.value.integer(entry.value.size()) && !entry.value.string(-1));
  }
}

void read_tensors(const File& file, std::span<const std::byte> input) {
  for (const Tensor& tensor : file.tensors()) {
    const quern::TensorView& view = tensor.view;
    require(file.find_tensor(tensor.name) == &view);
    require(view.data.data() >= input.data() && view.data.data() + view.data.size() <= input.data() + input.size());
    require(static_cast<int64_t>(view.data.size()) == view.type->row_bytes(view.shape.columns()) * view.shape.rows());
    std::vector<float> row(view.shape.columns());
    view.decode_row(0, row.data());
    view.decode_row(view.shape.rows() - 1, row.data());
  }
}

void write_again(const File& file) {
  quern::gguf::Writer writer;
  for (const Entry& entry : file.metadata())
    if (entry.key != "general.alignment") writer.copy(entry);
  for (const Tensor& tensor : file.tensors())
    writer.add(tensor.name, tensor.view.shape, *tensor.view.type,
               std::vector(tensor.view.data.begin(), tensor.view.data.end()));
  const auto bytes = writer.bytes();
  require(bytes.has_value());
  const auto again = File::parse(*bytes);
  require(again.has_value() && again->tensors().size() == file.tensors().size());
  for (const Tensor& tensor : file.tensors()) {
    const quern::TensorView* view = again->find_tensor(tensor.name);
    require(view && view->shape == tensor.view.shape && std::ranges::equal(view->data, tensor.view.data));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  const auto file = File::parse(input);
  if (!file) return 0;
  read_metadata(*file);
  read_tensors(*file, input);
  write_again(*file);
  return 0;
}
