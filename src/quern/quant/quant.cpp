// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/quant.h"

#include <bit>

namespace quern {

static_assert(std::endian::native == std::endian::little, "model files and their blocks are little-endian");

const QuantType* find_quant_type(uint32_t gguf_id) {
  for (int i = 0; i < quant_table_size; ++i)
    if (quant_table[i]->gguf_id == gguf_id) return quant_table[i];
  return nullptr;
}

const QuantType* find_quant_type(std::string_view name) {
  for (int i = 0; i < quant_table_size; ++i)
    if (quant_table[i]->name == name) return quant_table[i];
  return nullptr;
}

}  // namespace quern
