// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q50 {
  struct Block {
    uint8_t d[2], high[4], codes[16];  // bit i of `high` is the fifth bit of code i
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 5, kZero = 16;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i) | (b.high[i / 8] >> i % 8 & 1) << 4; }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
};
static_assert(sizeof(Q50::Block) == 22);

}  // namespace

extern const QuantType quant_q5_0;
const QuantType quant_q5_0 = IntegerType<Q50>::type("Q5_0", 6);

}  // namespace quern
