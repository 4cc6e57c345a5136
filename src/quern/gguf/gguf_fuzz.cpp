// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "quern/gguf/file.h"

// Whatever is accepted must be readable to its last value and byte.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file = quern::gguf::File::parse({reinterpret_cast<const std::byte*>(data), size});
  if (!file) return 0;
  size_t sum = 0;
  for (const quern::gguf::Entry& entry : file->metadata()) {
    for (int64_t i = 0; i < entry.value.size() && i < 1000; ++i) {
      if (auto s = entry.value.string(i)) sum += s->size();
      if (auto n = entry.value.integer(i)) sum += static_cast<size_t>(*n);
      if (auto x = entry.value.number(i)) sum += *x > 0;
    }
    if (file->find(entry.key) == nullptr) __builtin_trap();
  }
  for (const quern::gguf::Tensor& tensor : file->tensors()) {
    std::vector<float> row(tensor.view.shape.columns());
    tensor.view.decode_row(tensor.view.shape.rows() - 1, row.data());
    sum += row[0] > 0;
  }
  return sum == 1 ? 0 : 0;
}
