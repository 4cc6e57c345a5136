// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "quern/safetensors/folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto tensors = quern::safetensors::parse_file({reinterpret_cast<const std::byte*>(data), size});
  if (!tensors) return 0;
  for (const auto& tensor : *tensors) {
    if (!tensor.view.type || tensor.view.data.empty()) continue;
    std::vector<float> row(tensor.view.shape.columns());
    tensor.view.decode_row(tensor.view.shape.rows() - 1, row.data());
  }
  return 0;
}
