// SPDX-License-Identifier: Apache-2.0
// Saved state is read back from disk: its bytes are as hostile as any file's.
#include <cstring>
#include <vector>

#include "quern/engine/checkpoint_file.h"

namespace {

const quern::StateItem kItems[] = {
    {.kind = quern::StateKind::rows, .layer = 0, .heads = 1, .key_width = 2, .value_width = 2},
    {.kind = quern::StateKind::window, .layer = 1, .heads = 1, .key_width = 2, .value_width = 2, .window = 65},
    {.kind = quern::StateKind::fixed, .layer = 2, .floats = 4},
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  quern::StateStore store(kItems, quern::KvType::int8, 1 << 20);
  std::vector<std::byte> bytes(size);
  if (size) std::memcpy(bytes.data(), data, size);
  const uint64_t fingerprint = quern::state_fingerprint(store, 1);
  // A fuzzer never guesses fingerprint, size and checksum; with them mended it reaches what lies behind.
  if (size >= 40 && (data[0] & 1)) {
    const uint64_t magic = 0x3154415453525551, total = size;
    std::memcpy(bytes.data(), &magic, 8);
    std::memcpy(bytes.data() + 8, &fingerprint, 8);
    std::memcpy(bytes.data() + 24, &total, 8);
    const uint64_t sum = quern::checksum64(std::span(bytes).first(size - 8));
    std::memcpy(bytes.data() + size - 8, &sum, 8);
  }
  auto loaded = quern::load_checkpoint(store, bytes, fingerprint);
  if (!loaded) return 0;
  // What was accepted saves to the same bytes and can be gone on with.
  if (quern::save_checkpoint(store, *loaded, fingerprint) != bytes) __builtin_trap();
  quern::Sequence sequence(store);
  sequence.restore(*loaded);
  if (sequence.prepare(70)) sequence.commit(70);
  return 0;
}
