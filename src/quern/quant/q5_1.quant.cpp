// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q51 {
  struct Block {
    uint8_t d[2], m[2], high[4], codes[16];  // bit i of `high` is the fifth bit of code i
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 5, kZero = 0;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i) | (b.high[i / 8] >> i % 8 & 1) << 4; }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static uint16_t min_number(const Block& b) { return half_bits(b.m); }
};
static_assert(sizeof(Q51::Block) == 24);

}  // namespace

extern const QuantType quant_q5_1;
const QuantType quant_q5_1 = IntegerType<Q51>::type("Q5_1", 7);

}  // namespace quern
