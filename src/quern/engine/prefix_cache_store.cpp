// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_block.h"

// What a PrefixCache has in its store.

namespace quern {
namespace {

/// An entry's name in the store.
StoreKey entry_key(const StoreKey& block, int part) {
  const auto byte = static_cast<std::byte>(part);
  return chain(block, {&byte, 1});
}

}  // namespace

/// Brings in the block behind the last of `path`; false: it is damaged, or there is no memory.
bool PrefixCache::bring_block(Path& path, std::span<const int32_t> ids) {
  Block* last = path.blocks.back();
  Block* next = add(*last, block_ids(ids, last->depth));
  try {
    path.blocks.reserve(path.blocks.size() + 1);
    if (load(*next, Part::rows)) return path.blocks.push_back(next), true;
  } catch (const std::bad_alloc&) {
    return remove(*next), false;  // the same as no memory for its pages
  }
  return remove(*next), false;
}

bool PrefixCache::bring_rows(std::string_view owner_name, std::span<const int32_t> ids, int64_t most, int64_t bytes,
                             Cursor& at) {
  if (!store_) return false;
  Path path = follow(owner(owner_name).root, ids, most / kKvPageTokens);
  const int64_t depth = resumable(path);
  const int64_t before = bytes_;
  while (std::ssize(path.blocks) <= depth && bytes_ - before < bytes)
    if (!bring_block(path, ids)) return false;
  if (!path.blocks.back()->parent) return false;
  at = Cursor(path.blocks.back());
  touch(*path.blocks.back());
  return std::ssize(path.blocks) <= depth;
}

/// Brings in what lies in the store only, down to `depth`; false: something was damaged, or there is no memory.
bool PrefixCache::bring_in(Path& path, std::span<const int32_t> ids, int64_t depth) {
  while (std::ssize(path.blocks) <= depth)
    if (!bring_block(path, ids)) return false;
  const Cursor stays(path.blocks.back());
  for (int64_t d = first_window_block(depth * kKvPageTokens) + 1; d <= depth; ++d)
    if (!load(*path.blocks[d], Part::windows)) return false;
  return load(*path.blocks[depth], Part::blobs);
}

bool PrefixCache::stored(const StoreKey& key, Part part) const {
  return store_->contains(entry_key(key, static_cast<int>(part)));
}

/// True if the block holds the part, or its model has none of it. Takes memory from what was used longest ago.
bool PrefixCache::load(Block& block, Part part) {
  if (items(part).empty() || block.holds(part)) return true;
  if (!store_) return false;
  const Cursor stays(&block);
  std::vector<PageRef> pages;
  for (const int item : items(part)) {
    Result<PageRef> page = state_.pool(item)->get();
    while (!page && evict()) page = state_.pool(item)->get();
    if (!page) break;
    pages.push_back(*std::move(page));
  }
  std::vector<std::span<std::byte>> into;
  for (const PageRef& page : pages) into.push_back(page.bytes());
  if (into.size() < items(part).size() || !store_->get(entry_key(block.key, static_cast<int>(part)), into))
    return false;
  hold(block, part, std::move(pages));
  return true;
}

void PrefixCache::write(const Block& block, Part part) {
  if (!store_ || !block.holds(part)) return;
  const StoreKey key = entry_key(block.key, static_cast<int>(part));
  if (store_->contains(key)) return;
  std::vector<std::span<const std::byte>> bytes;
  for (const PageRef& page : block.part(part)) bytes.push_back(page.bytes());
  const uint64_t id = ++last_write_;
  writing_[id] = block.part(part);
  try {
    store_->put(key, std::move(bytes), [written = written_, id] {
      const std::scoped_lock lock(written->mutex);
      written->done.push_back(id);
    });
  } catch (...) {
    writing_.erase(id);
    throw;
  }
}

void PrefixCache::collect() {
  if (writing_.empty()) return;
  const std::scoped_lock lock(written_->mutex);
  for (const uint64_t id : written_->done) writing_.erase(id);
  written_->done.clear();
}

bool PrefixCache::settle() {
  if (writing_.empty()) return false;
  store_->flush();
  collect();
  return true;
}

}  // namespace quern
