// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "quern/quant/quant.h"

namespace quern {
namespace {

void decode(const std::byte* blocks, float* out, int64_t n) { std::memcpy(out, blocks, n * sizeof(float)); }
void encode(const float* in, std::byte* blocks, int64_t n) { std::memcpy(blocks, in, n * sizeof(float)); }

}  // namespace

const QuantType quant_f32 = {"F32", 0, 1, 4, decode, encode, nullptr};

}  // namespace quern
