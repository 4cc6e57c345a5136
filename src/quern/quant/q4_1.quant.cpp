// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q41 {
  struct Block {
    uint8_t d[2], m[2], codes[16];
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 4, kZero = 0;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i); }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static uint16_t min_number(const Block& b) { return half_bits(b.m); }
};
static_assert(sizeof(Q41::Block) == 20);

}  // namespace

extern const QuantType quant_q4_1;
const QuantType quant_q4_1 = IntegerType<Q41>::type("Q4_1", 3);

}  // namespace quern
