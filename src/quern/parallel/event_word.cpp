// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/event_word.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quern {
namespace {

// Longer than an even phase of a decode step takes to finish everywhere, short enough that a virtual processor that
// lost its turn is not waited for by burning another one.
constexpr auto kSpin = std::chrono::microseconds(50), kBriefSpin = kSpin / 10;
constexpr int kPausesPerLook = 16;
constexpr int kYields = 8;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "a futex is the word itself");

void futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

}  // namespace

void EventWord::advance() {
  // Sequentially consistent with `sleep_past`: either we see the sleeper, or it sees the new value.
  word_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(word_, FUTEX_WAKE, INT_MAX);
}

bool EventWord::spin_past(uint32_t seen, Patience patience) const {
  if (patience == Patience::yield) {
    for (int i = 0; i < kYields; ++i) {
      if (value() != seen) return true;
      std::this_thread::yield();
    }
    return value() != seen;
  }
  const auto changes = [&] {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (value() != seen) return true;
      pause();
    }
    return false;
  };
  if (changes()) return true;  // often the clock is not needed
  const auto end = std::chrono::steady_clock::now() + (patience == Patience::brief ? kBriefSpin : kSpin);
  while (std::chrono::steady_clock::now() < end)
    if (changes()) return true;
  return false;
}

void EventWord::sleep_past(uint32_t seen) {
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (word_.load(std::memory_order_seq_cst) == seen) futex(word_, FUTEX_WAIT, seen);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace quern
