// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/checkpoint_file.h"

#include <algorithm>
#include <cstring>

#include "quern/engine/paging.h"

namespace quern {
namespace {

constexpr uint64_t kMagic = 0x3254415453525551;  // "QURSTAT2"

struct Header {
  uint64_t magic, fingerprint, length, total_bytes;
};

void append(std::vector<std::byte>& out, const void* data, size_t n) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out.insert(out.end(), bytes, bytes + n);
}

/// Pages of an item once `length` tokens are there: from the first that later tokens see.
struct PageRange {
  int64_t first, end;
};
PageRange live_pages(const StateItem& item, int64_t length) {
  return {first_live_page(item, length), pages_for(length)};
}

int64_t payload_bytes(StateStore& store, int64_t length) {
  int64_t bytes = 0;
  for (size_t i = 0; i < store.items().size(); ++i) {
    const StateItem& item = store.items()[i];
    if (item.kind == StateKind::borrowed) continue;
    const PageRange live = keeps_pages(item) ? live_pages(item, length) : PageRange{0, 1};
    bytes += std::max<int64_t>(0, live.end - live.first) * store.pool(static_cast<int>(i))->page_bytes();
  }
  return bytes;
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t hash = seed;
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    hash = (hash ^ word) * 1099511628211ull;
    hash ^= hash >> 29;
    bytes = bytes.subspan(8);
  }
  for (std::byte b : bytes) hash = (hash ^ static_cast<uint64_t>(b)) * 1099511628211ull;
  return hash ^ hash >> 32;
}

uint64_t state_fingerprint(const StateStore& store, uint64_t model) {
  uint64_t hash = checksum64(std::as_bytes(std::span(&model, 1)));
  for (const StateItem& item : store.items()) {
    const int64_t fields[] = {static_cast<int64_t>(item.kind),
                              item.layer,
                              item.heads,
                              item.key_width,
                              item.value_width,
                              item.window,
                              item.floats,
                              item.owner};
    hash = checksum64(std::as_bytes(std::span(fields)), hash);
  }
  const int64_t kv = static_cast<int64_t>(store.kv());
  return checksum64(std::as_bytes(std::span(&kv, 1)), hash);
}

std::vector<std::byte> save_checkpoint(const StateStore& store, const Checkpoint& checkpoint, uint64_t fingerprint) {
  std::vector<std::byte> out(sizeof(Header));
  for (size_t i = 0; i < store.items().size(); ++i) {
    const StateItem& item = store.items()[i];
    if (item.kind == StateKind::fixed && checkpoint.fixed[i])
      append(out, checkpoint.fixed[i].data(), checkpoint.fixed[i].bytes().size());
    if (!keeps_pages(item)) continue;
    const PageRange live = live_pages(item, checkpoint.length);
    for (int64_t p = live.first; p < live.end; ++p)
      append(out, checkpoint.pages[i][p].data(), checkpoint.pages[i][p].bytes().size());
  }
  const Header header{kMagic, fingerprint, static_cast<uint64_t>(checkpoint.length), out.size() + sizeof(uint64_t)};
  std::memcpy(out.data(), &header, sizeof header);
  const uint64_t sum = checksum64(out);
  append(out, &sum, sizeof sum);
  return out;
}

Result<Checkpoint> load_checkpoint(StateStore& store, std::span<const std::byte> bytes, uint64_t fingerprint) {
  const auto damaged = [](const char* what) { return make_error(ErrorCode::corrupt_data, "saved state: {}", what); };
  Header header;
  if (bytes.size() < sizeof header + sizeof(uint64_t)) return damaged("expected a header, found fewer bytes");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kMagic) return damaged("expected the magic QURSTAT2, found other bytes");
  if (header.fingerprint != fingerprint) return damaged("expected this model and KV type, found another's");
  if (header.total_bytes != bytes.size())
    return damaged("expected as many bytes as the header says, found another size");
  uint64_t sum;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  if (sum != checksum64(bytes.first(bytes.size() - sizeof sum)))
    return damaged("expected the checksum of its bytes, found another");
  if (header.length == 0 || header.length > INT32_MAX) return damaged("length out of range");
  const auto length = static_cast<int64_t>(header.length);
  std::span<const std::byte> rest = bytes.subspan(sizeof header, bytes.size() - sizeof header - sizeof sum);
  if (payload_bytes(store, length) != static_cast<int64_t>(rest.size()))
    return damaged("expected as many pages as its length needs, found another number");

  Checkpoint out{length, std::vector<std::vector<PageRef>>(store.items().size()),
                 std::vector<PageRef>(store.items().size())};
  const auto take = [&](PagePool& pool) -> Result<PageRef> {
    QUERN_TRY(PageRef page, pool.get());
    std::memcpy(page.data(), rest.data(), page.bytes().size());
    rest = rest.subspan(page.bytes().size());
    return page;
  };
  for (size_t i = 0; i < store.items().size(); ++i) {
    const StateItem& item = store.items()[i];
    if (item.kind == StateKind::fixed) {
      QUERN_TRY(out.fixed[i], take(*store.pool(static_cast<int>(i))));
    }
    if (!keeps_pages(item)) continue;
    const PageRange live = live_pages(item, length);
    out.pages[i].resize(live.end);
    for (int64_t p = live.first; p < live.end; ++p) {
      QUERN_TRY(out.pages[i][p], take(*store.pool(static_cast<int>(i))));
    }
  }
  return out;
}

}  // namespace quern
