// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quern/engine/sequence.h"

namespace quern {

/// Identifies what a saved state belongs to: the model's items, the KV type and `model` (a hash of its weights or
/// file).
uint64_t state_fingerprint(const StateStore& store, uint64_t model);

/// A checkpoint as bytes: header, pages, blobs, checksum; little-endian. Layout: docs/formats.md, "saved state".
std::vector<std::byte> save_checkpoint(const StateStore& store, const Checkpoint& checkpoint, uint64_t fingerprint);

/// Back again. Bytes are as hostile as any file's: damage, another model's or version's state are corrupt_data, and
/// nothing is allocated before the sizes are known to fit.
Result<Checkpoint> load_checkpoint(StateStore& store, std::span<const std::byte> bytes, uint64_t fingerprint);

/// FNV-1a over 64-bit words: against damage, not against forgery.
uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed = 14695981039346656037ull);

}  // namespace quern
