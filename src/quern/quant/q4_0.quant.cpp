// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q40 {
  struct Block {
    uint8_t d[2], codes[16];
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 4, kZero = 8;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i); }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
};
static_assert(sizeof(Q40::Block) == 18);

}  // namespace

extern const QuantType quant_q4_0;
const QuantType quant_q4_0 = IntegerType<Q40>::type("Q4_0", 2);

}  // namespace quern
