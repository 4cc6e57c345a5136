// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// One test of `quern bench`.
struct BenchTest {
  enum class Kind : uint8_t {
    prefill,  ///< "pp512": a prompt of n tokens; logits of the last
    decode,   ///< "tg128": n tokens one by one, logits of each
    batch,    ///< "b8x32": the same for several sequences in common steps
    ttft,     ///< from the (warm) file to the first token after a prompt of 16 tokens
    load,     ///< from the file to ready
  };
  /// The number that changes in a sweep.
  enum class Swept : uint8_t { nothing, n, sequences, depth };

  std::string name;
  Kind kind;
  int64_t n = 0;
  int sequences = 1;
  int64_t depth = 0;     ///< "@4096": tokens that are there before
  bool samples = false;  ///< "+sample", decode and batch: each token is drawn from the logits before it
  Swept swept = Swept::nothing;
  std::string sweep{};  ///< "pp128..4096", which this is one test of; else empty

  bool in_milliseconds() const { return kind == Kind::ttft || kind == Kind::load; }
  int64_t swept_value() const {
    return swept == Swept::n ? n : swept == Swept::sequences ? sequences : swept == Swept::depth ? depth : 0;
  }
};

/// "pp512,tg64@4096,tg64+sample,b8x32,ttft,load". A range in place of one of a test's numbers, "tg64@0..8192", stands
/// for a test of each number that doubling meets and of the last one; from 0 on for 0 and the last five such.
Result<std::vector<BenchTest>> parse_bench_tests(std::string_view text);

/// "1,2,4" or "1..4".
Result<std::vector<int>> parse_thread_counts(std::string_view text);

/// Context memory that has room for each of the tests, one at a time. Sequences that went on from a common depth share
/// it, so a deep test and a wide one do not need their product.
struct BenchRoom {
  int64_t tokens;  ///< of each sequence
  int sequences;
};
BenchRoom room_for(std::span<const BenchTest> tests);

/// Tokens of the prompt of `ttft`.
inline constexpr int64_t kFirstTokenPrompt = 16;

}  // namespace quern
