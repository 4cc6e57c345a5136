// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <list>

#include "quern/base/sha256.h"
#include "quern/engine/paging.h"

namespace quern {
namespace {

/// SHA-256 over a parent's key and what follows it.
StoreKey chain(const StoreKey& parent, std::span<const std::byte> more) {
  Sha256 hash;
  hash.update(parent.bytes);
  hash.update(more);
  return {hash.finish_bytes()};
}

std::span<const int32_t> block_ids(std::span<const int32_t> ids, int64_t depth) {
  return ids.subspan(depth * kKvPageTokens, kKvPageTokens);
}

StoreKey root_key(std::string_view owner) { return chain({}, std::as_bytes(std::span(owner))); }

/// An entry's name in the store.
StoreKey entry_key(const StoreKey& block, int part) {
  const auto byte = static_cast<std::byte>(part);
  return chain(block, {&byte, 1});
}

}  // namespace

/// One page of tokens of a prefix. The root of an owner has no tokens and holds nothing.
class PrefixCache::Block {
 public:
  Owner* owner = nullptr;
  Block* parent = nullptr;  // null: a root
  std::vector<int32_t> ids;
  int64_t depth = 0;  // blocks from the root, this one among them
  StoreKey key{};     // of all tokens up to here, and the owner
  std::vector<std::unique_ptr<Block>> children;
  std::vector<PageRef> parts[kParts];  // by the items of a part; empty: not held
  bool passing = false;                // its blobs may go when the sequence has come further
  int cursors = 0;
  uint64_t used = 0;
  std::list<Block*>::iterator place;  // in the owner's list

  const std::vector<PageRef>& part(Part p) const { return parts[static_cast<int>(p)]; }
  bool holds(Part p) const { return !part(p).empty(); }

  Block* child(std::span<const int32_t> wanted) const {
    for (const auto& c : children)
      if (std::ranges::equal(c->ids, wanted)) return c.get();
    return nullptr;
  }
};

struct PrefixCache::Owner {
  Block root;
  std::list<Block*> recent;  // used last in front; a parent always before its children
  int64_t bytes = 0;
  int64_t state_bytes = 0;  // of windows and blobs
};

PrefixCache::Cursor::Cursor(Block* block) : block_(block) {
  if (block_) ++block_->cursors;
}

PrefixCache::Cursor::~Cursor() {
  if (block_) --block_->cursors;
}

PrefixCache::PrefixCache(StateStore& state, PrefixStore* store) : state_(state), store_(store) {
  for (int i = 0; i < static_cast<int>(state.items().size()); ++i) {
    const StateKind kind = state.items()[i].kind;
    if (kind == StateKind::rows) items_[static_cast<int>(Part::rows)].push_back(i);
    if (kind == StateKind::window) items_[static_cast<int>(Part::windows)].push_back(i);
    if (kind == StateKind::fixed) items_[static_cast<int>(Part::blobs)].push_back(i);
  }
}

PrefixCache::~PrefixCache() {
  if (store_) store_->flush();  // it reads pages that are held here
}

PrefixCache::Owner& PrefixCache::owner(std::string_view name) {
  const auto found = owners_.find(name);
  if (found != owners_.end()) return *found->second;
  auto made = std::make_unique<Owner>();
  made->root.owner = made.get();
  made->root.key = root_key(name);
  return *owners_.emplace(name, std::move(made)).first->second;
}

PrefixCache::Block* PrefixCache::add(Block& parent, std::span<const int32_t> ids) {
  auto block = std::make_unique<Block>();
  block->owner = parent.owner;
  block->parent = &parent;
  block->ids.assign(ids.begin(), ids.end());
  block->depth = parent.depth + 1;
  if (store_) block->key = chain(parent.key, std::as_bytes(ids));
  parent.children.reserve(parent.children.size() + 1);
  block->place = parent.owner->recent.insert(parent.owner->recent.begin(), block.get());
  ++n_blocks_;
  parent.children.push_back(std::move(block));
  return parent.children.back().get();
}

void PrefixCache::remove(Block& block) {
  QUERN_CHECK(block.children.empty() && block.cursors == 0, "a block that is in use");
  for (const Part part : {Part::rows, Part::windows, Part::blobs}) drop(block, part);
  block.owner->recent.erase(block.place);
  --n_blocks_;
  std::erase_if(block.parent->children, [&](const auto& child) { return child.get() == &block; });
}

void PrefixCache::hold(Block& block, Part part, std::vector<PageRef> pages) {
  int64_t bytes = 0;
  for (const PageRef& page : pages) bytes += static_cast<int64_t>(page.bytes().size());
  block.parts[static_cast<int>(part)] = std::move(pages);
  bytes_ += bytes;
  block.owner->bytes += bytes;
  if (part != Part::rows) block.owner->state_bytes += bytes;
}

void PrefixCache::drop(Block& block, Part part) {
  std::vector<PageRef>& pages = block.parts[static_cast<int>(part)];
  int64_t bytes = 0;
  for (const PageRef& page : pages) bytes += static_cast<int64_t>(page.bytes().size());
  pages.clear();
  bytes_ -= bytes;
  block.owner->bytes -= bytes;
  if (part != Part::rows) block.owner->state_bytes -= bytes;
}

/// Marks a block and all before it as used now.
void PrefixCache::touch(Block& block) {
  ++clock_;
  std::list<Block*>& recent = block.owner->recent;
  for (Block* b = &block; b->parent; b = b->parent) {
    b->used = clock_;
    recent.splice(recent.begin(), recent, b->place);
  }
}

std::vector<PageRef> PrefixCache::pages_of(Part part, const Sequence& sequence, int64_t page) const {
  std::vector<PageRef> pages;
  for (const int item : items(part)) {
    const PageRef* held = part == Part::blobs ? sequence.fixed(item) : sequence.page(item, page);
    if (!held) return {};
    pages.push_back(*held);
  }
  return pages;
}

/// The first block whose windows the token at position `length` sees, of any item.
int64_t PrefixCache::first_window_block(int64_t length) const {
  int64_t first = length / kKvPageTokens;
  for (const int item : items(Part::windows)) first = std::min(first, first_live_page(state_.items()[item], length));
  return first;
}

void PrefixCache::keep_windows(Block& last, const Sequence& sequence) {
  const int64_t first = first_window_block(sequence.length());
  for (Block* block = &last; block->parent && block->depth > first; block = block->parent) {
    if (block->holds(Part::windows)) continue;
    auto pages = pages_of(Part::windows, sequence, block->depth - 1);
    if (pages.empty()) return;  // let go already: nobody can go on from here
    hold(*block, Part::windows, std::move(pages));
    write(*block, Part::windows);
  }
}

void PrefixCache::keep(std::string_view owner_name, std::span<const int32_t> ids, const Sequence& sequence, State state,
                       Cursor& cursor) {
  Block* block = cursor.block_ ? cursor.block_ : &owner(owner_name).root;
  const int64_t whole = sequence.length() / kKvPageTokens;
  while (block->depth < whole) {
    const auto next = block_ids(ids, block->depth);
    Block* child = block->child(next);
    if (!child) {
      auto pages = pages_of(Part::rows, sequence, block->depth);
      if (pages.size() < items(Part::rows).size()) break;
      child = add(*block, next);
      hold(*child, Part::rows, std::move(pages));
    }
    write(*child, Part::rows);  // also one that the store had no room for when it came
    block = child;
  }
  if (!block->parent) return;
  cursor = Cursor(block);
  touch(*block);
  if (state == State::none) return;
  if (!items(Part::windows).empty()) keep_windows(*block, sequence);
  if (items(Part::blobs).empty() || sequence.length() != block->depth * kKvPageTokens) return;
  if (!block->holds(Part::blobs)) {
    block->passing = state == State::passing;
    hold(*block, Part::blobs, pages_of(Part::blobs, sequence, 0));
    if (state == State::lasting) write(*block, Part::blobs);
  }
  if (state != State::passing) return;
  for (Block* before = block->parent; before->parent; before = before->parent) {
    if (!before->holds(Part::blobs)) continue;
    if (before->passing) drop(*before, Part::blobs);
    return;
  }
}

bool PrefixCache::evict_state(Owner& owner) {
  Block* oldest = nullptr;  // of those used last at the same time the shallowest: talks go on at their end
  for (Block* block : owner.recent) {
    if ((!block->holds(Part::blobs) && !block->holds(Part::windows)) || block->cursors > 0) continue;
    if (!oldest || std::pair(block->used, block->depth) < std::pair(oldest->used, oldest->depth)) oldest = block;
  }
  if (!oldest) return false;
  drop(*oldest, Part::blobs);
  drop(*oldest, Part::windows);
  return true;
}

bool PrefixCache::settle() {
  if (writing_.empty()) return false;
  store_->flush();
  collect();
  return true;
}

bool PrefixCache::evict() {
  collect();
  std::vector<Owner*> by_size;
  for (const auto& [name, owner] : owners_) by_size.push_back(owner.get());
  std::ranges::sort(by_size, std::greater(), &Owner::bytes);
  for (Owner* owner : by_size) {
    if (owner->state_bytes > owner->bytes - owner->state_bytes && evict_state(*owner)) return true;
    for (auto at = owner->recent.rbegin(); at != owner->recent.rend(); ++at) {
      if (!(*at)->children.empty() || (*at)->cursors > 0) continue;
      remove(**at);
      return true;
    }
    if (evict_state(*owner)) return true;
  }
  return false;
}

struct PrefixCache::Path {
  std::vector<Block*> blocks;  // by depth, from the root
  std::vector<StoreKey> keys;  // with a store: of those and of what it has beyond them
  int64_t known() const { return static_cast<int64_t>(std::max(blocks.size(), keys.size())) - 1; }
};

/// All blocks of `ids` that are here or in the store, up to `limit` of them.
PrefixCache::Path PrefixCache::follow(Block& root, std::span<const int32_t> ids, int64_t limit) const {
  Path path;
  path.blocks = {&root};
  while (static_cast<int64_t>(path.blocks.size()) <= limit) {
    Block* child = path.blocks.back()->child(block_ids(ids, path.blocks.back()->depth));
    if (!child) break;
    path.blocks.push_back(child);
  }
  if (!store_) return path;
  for (const Block* block : path.blocks) path.keys.push_back(block->key);
  while (static_cast<int64_t>(path.keys.size()) <= limit) {
    const auto depth = static_cast<int64_t>(path.keys.size()) - 1;
    const StoreKey next = chain(path.keys.back(), std::as_bytes(block_ids(ids, depth)));
    if (!stored(next, items(Part::rows).empty() ? Part::blobs : Part::rows)) break;
    path.keys.push_back(next);
  }
  return path;
}

/// The most that a child of `block` has in common with the ids behind it.
std::optional<PrefixCache::Hit::Fork> PrefixCache::fork_behind(const Block& block, std::span<const int32_t> ids) {
  std::optional<Hit::Fork> fork;
  const auto rest = ids.subspan(std::min<size_t>(block.depth * kKvPageTokens, ids.size()));
  for (const auto& child : block.children) {
    const auto [known, wanted] = std::ranges::mismatch(child->ids, rest);
    if (known == child->ids.end() || wanted == rest.end()) continue;
    const int64_t position = block.depth * kKvPageTokens + (known - child->ids.begin());
    if (!fork || position > fork->position) fork = {position, *known};
  }
  return fork;
}

/// Whether a sequence could go on after the first `depth` blocks, with what is here and in the store.
bool PrefixCache::resumes(const Path& path, int64_t depth) const {
  const auto has = [&](int64_t d, Part part) {
    if (items(part).empty()) return true;
    if (d < static_cast<int64_t>(path.blocks.size()) && path.blocks[d]->holds(part)) return true;
    return store_ && stored(path.keys[d], part);
  };
  if (!has(depth, Part::blobs)) return false;
  for (int64_t d = first_window_block(depth * kKvPageTokens) + 1; d <= depth; ++d)
    if (!has(d, Part::windows)) return false;
  return true;
}

/// Brings in what lies in the store only, down to `depth`; false: something was damaged, or there is no memory.
bool PrefixCache::bring_in(Path& path, std::span<const int32_t> ids, int64_t depth) {
  while (static_cast<int64_t>(path.blocks.size()) <= depth) {
    Block* last = path.blocks.back();
    Block* next = add(*last, block_ids(ids, last->depth));
    if (!load(*next, Part::rows)) return remove(*next), false;
    path.blocks.push_back(next);
  }
  const Cursor stays(path.blocks.back());
  for (int64_t d = first_window_block(depth * kKvPageTokens) + 1; d <= depth; ++d)
    if (!load(*path.blocks[d], Part::windows)) return false;
  return load(*path.blocks[depth], Part::blobs);
}

Checkpoint PrefixCache::checkpoint(const Path& path, int64_t depth) const {
  Checkpoint state;
  state.length = depth * kKvPageTokens;
  state.pages.resize(state_.items().size());
  state.fixed.resize(state_.items().size());
  for (const Part part : {Part::rows, Part::windows}) {
    for (size_t i = 0; i < items(part).size(); ++i) {
      const int item = items(part)[i];
      state.pages[item].resize(depth);
      for (int64_t d = first_live_page(state_.items()[item], state.length); d < depth; ++d)
        state.pages[item][d] = path.blocks[d + 1]->part(part)[i];
    }
  }
  for (size_t i = 0; i < items(Part::blobs).size(); ++i)
    state.fixed[items(Part::blobs)[i]] = path.blocks[depth]->part(Part::blobs)[i];
  return state;
}

PrefixCache::Hit PrefixCache::find(std::string_view owner_name, std::span<const int32_t> ids, int64_t most,
                                   bool with_fork) {
  collect();
  Block& root = owner(owner_name).root;
  Hit hit;
  for (int64_t limit = std::min(most, static_cast<int64_t>(ids.size())) / kKvPageTokens; limit > 0;) {
    Path path = follow(root, ids, limit);
    int64_t depth = path.known();
    while (depth > 0 && !resumes(path, depth)) --depth;
    if (depth == 0) break;
    if (bring_in(path, ids, depth)) {
      touch(*path.blocks[depth]);
      hit.state = checkpoint(path, depth);
      hit.cursor = Cursor(path.blocks[depth]);
      break;
    }
    limit = depth - 1;
  }
  if (with_fork)
    hit.fork = fork_behind(*follow(root, ids, static_cast<int64_t>(ids.size()) / kKvPageTokens).blocks.back(), ids);
  return hit;
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
  store_->put(key, std::move(bytes), [written = written_, id] {
    const std::scoped_lock lock(written->mutex);
    written->done.push_back(id);
  });
}

void PrefixCache::collect() {
  if (writing_.empty()) return;
  const std::scoped_lock lock(written_->mutex);
  for (const uint64_t id : written_->done) writing_.erase(id);
  written_->done.clear();
}

}  // namespace quern
