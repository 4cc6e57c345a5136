// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q80 {
  struct Block {
    uint8_t d[2], codes[32];  // two's complement; turning the highest bit adds 128
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 8, kZero = 128;
  static int code(const Block& b, int, int i) { return b.codes[i] ^ 0x80; }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
};
static_assert(sizeof(Q80::Block) == 34);

}  // namespace

extern const QuantType quant_q8_0;
const QuantType quant_q8_0 = IntegerType<Q80>::type("Q8_0", 8);

}  // namespace quern
