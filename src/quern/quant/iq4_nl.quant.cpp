// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct IQ4NL {
  struct Block {
    uint8_t d[2], codes[16];
  };
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 4;
  static constexpr const int8_t* kLevels = kIq4Levels;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i); }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
};
static_assert(sizeof(IQ4NL::Block) == 18);

}  // namespace

extern const QuantType quant_iq4_nl;
const QuantType quant_iq4_nl = IntegerType<IQ4NL>::type("IQ4_NL", 20);

}  // namespace quern
