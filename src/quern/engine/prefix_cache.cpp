// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "quern/engine/prefix_block.h"

namespace quern {
namespace {

/// Ends of sequences that share a block: talks with a common beginning are that short only where they begin.
constexpr size_t kMostTails = 8;
/// Rows of a block's beginning that are worth the copy of its pages.
constexpr int64_t kLeastRows = 8;

StoreKey root_key(std::string_view owner) { return chain({}, std::as_bytes(std::span(owner))); }

}  // namespace

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

void PrefixCache::hold(Block& block, Part part, std::vector<PageRef> pages) {
  int64_t bytes = 0;
  for (const PageRef& page : pages) bytes += static_cast<int64_t>(page.bytes().size());
  block.parts[static_cast<int>(part)] = std::move(pages);
  bytes_ += bytes;
  block.owner->bytes += bytes;
  if (part != Part::rows) block.owner->state_bytes += bytes;
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
  QUERN_CHECK(block->depth <= whole, "a cursor beyond its sequence");
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
  const int64_t left = cursor.passing_;
  cursor = Cursor(block);
  cursor.passing_ = left;
  touch(*block);
  if (state == State::none) return;
  if (!items(Part::windows).empty()) keep_windows(*block, sequence);
  if (items(Part::blobs).empty() || sequence.length() != block->depth * kKvPageTokens) return;
  if (block->passing && state == State::lasting) {
    block->passing = false;
    write(*block, Part::blobs);
  }
  if (left > 0 && left < block->depth) {
    Block* before = block;
    while (before->depth > left) before = before->parent;
    if (before->passing && before->holds(Part::blobs)) drop(*before, Part::blobs);
    cursor.passing_ = 0;
  }
  if (block->holds(Part::blobs)) return;
  block->passing = state == State::passing;
  hold(*block, Part::blobs, pages_of(Part::blobs, sequence, 0));
  if (block->passing)
    cursor.passing_ = block->depth;
  else
    write(*block, Part::blobs);
}

void PrefixCache::keep_end(std::span<const int32_t> ids, const Sequence& sequence, const Cursor& cursor) {
  Block* block = cursor.block_;
  if (!block || sequence.length() / kKvPageTokens != block->depth || sequence.length() == block->length()) return;
  const auto rest = ids.first(sequence.length()).subspan(block->length());
  Tail tail{.ids = {rest.begin(), rest.end()}, .state = sequence.checkpoint()};
  for (const Block* b = block; b->parent; b = b->parent)
    for (size_t i = 0; i < items(Part::rows).size(); ++i)
      tail.state.pages[items(Part::rows)[i]][b->depth - 1] = b->part(Part::rows)[i];
  const auto count = [&](const PageRef& page) { tail.bytes += page ? std::ssize(page.bytes()) : 0; };
  for (const int item : items(Part::rows)) count(tail.state.pages[item].back());
  for (const int item : items(Part::windows)) std::ranges::for_each(tail.state.pages[item], count);
  for (const int item : items(Part::blobs)) count(tail.state.fixed[item]);
  // Rows end anywhere: what was left here earlier and goes on in these ids is a part of them.
  const auto superseded = [&](const Tail& t) {
    return begins_with(rest, t.ids) && (state_.cuts_anywhere() || t.ids.size() == rest.size());
  };
  for (auto at = block->tails.begin(); at != block->tails.end();) at = superseded(*at) ? drop(*block, at) : at + 1;
  if (block->tails.size() == kMostTails) drop(*block, block->oldest_tail());
  touch(*block);
  tail.used = clock_;
  block->owner->bytes += tail.bytes;
  block->owner->state_bytes += tail.bytes;
  bytes_ += tail.bytes;
  block->tails.push_back(std::move(tail));
}

/// All blocks of `ids` that are here or, if asked for, in the store, up to `limit` of them.
PrefixCache::Path PrefixCache::follow(Block& root, std::span<const int32_t> ids, int64_t limit, bool in_store) const {
  Path path;
  path.blocks = {&root};
  while (static_cast<int64_t>(path.blocks.size()) <= limit) {
    Block* child = path.blocks.back()->child(block_ids(ids, path.blocks.back()->depth));
    if (!child) break;
    path.blocks.push_back(child);
  }
  if (!store_ || !in_store) return path;
  for (const Block* block : path.blocks) path.keys.push_back(block->key);
  while (static_cast<int64_t>(path.keys.size()) <= limit) {
    const auto depth = static_cast<int64_t>(path.keys.size()) - 1;
    const StoreKey next = chain(path.keys.back(), std::as_bytes(block_ids(ids, depth)));
    if (!stored(next, items(Part::rows).empty() ? Part::blobs : Part::rows)) break;
    path.keys.push_back(next);
  }
  return path;
}

/// What is known behind `block` that has the most in common with the ids there: of a child or of a tail.
PrefixCache::Common PrefixCache::common_behind(Block& block, std::span<const int32_t> ids) {
  Common most;
  const auto rest = ids.subspan(std::min<size_t>(block.length(), ids.size()));
  const auto consider = [&](std::span<const int32_t> known, const Block* child, Tail* tail) {
    const auto [left, wanted] = std::ranges::mismatch(known, rest);
    const int64_t n = left - known.begin();
    if (n <= most.tokens) return;
    most = {n, child, tail, {}};
    if (left != known.end() && wanted != rest.end()) most.fork = {block.length() + n, *left};
  };
  for (const auto& child : block.children) consider(child->ids, child.get(), nullptr);
  for (Tail& tail : block.tails) consider(tail.ids, nullptr, &tail);
  return most;
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

/// The deepest block where one could; 0: none.
int64_t PrefixCache::resumable(const Path& path) const {
  int64_t depth = path.known();
  while (depth > 0 && !resumes(path, depth)) --depth;
  return depth;
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

/// Where a sequence ended with nothing but ids of these: all it needs is there.
PrefixCache::Tail* PrefixCache::tail_on(const Path& path, std::span<const int32_t> ids, int64_t most) {
  for (auto at = path.blocks.rbegin(); at != path.blocks.rend(); ++at) {
    const auto rest = ids.first(most).subspan(std::min((*at)->length(), most));
    Tail* longest = nullptr;
    for (Tail& tail : (*at)->tails)
      if (begins_with(rest, tail.ids) && (!longest || tail.ids.size() > longest->ids.size())) longest = &tail;
    if (longest) return longest;
  }
  return nullptr;
}

/// Goes on within the block behind a hit, where a model's state is rows alone.
void PrefixCache::add_rows(Hit& hit, Block& last, std::span<const int32_t> ids, int64_t most) {
  const Common common = common_behind(last, ids);
  const int64_t length = std::min(last.length() + common.tokens, most);
  if (length - last.length() < kLeastRows) return;
  for (size_t i = 0; i < items(Part::rows).size(); ++i) {
    const int item = items(Part::rows)[i];
    hit.state.pages[item].push_back(common.child ? common.child->part(Part::rows)[i]
                                                 : common.tail->state.pages[item].back());
  }
  hit.state.length = length;
  if (common.tail) common.tail->used = clock_;
}

PrefixCache::Hit PrefixCache::find(std::string_view owner_name, std::span<const int32_t> ids, int64_t most,
                                   bool with_fork) {
  collect();
  Block& root = owner(owner_name).root;
  most = std::min(most, static_cast<int64_t>(ids.size()));
  Hit hit;
  hit.state.pages.resize(state_.items().size());
  hit.state.fixed.resize(state_.items().size());
  for (int64_t limit = most / kKvPageTokens; limit > 0;) {
    Path path = follow(root, ids, limit);
    const int64_t depth = resumable(path);
    Tail* tail = state_.cuts_anywhere() ? nullptr : tail_on(path, ids, most);
    if (tail && tail->state.length > depth * kKvPageTokens) {
      Block& last = *path.blocks[tail->state.length / kKvPageTokens];
      touch(last);
      tail->used = clock_;
      hit.state = tail->state;
      hit.cursor = Cursor(&last);
      break;
    }
    if (depth == 0) break;
    if (bring_in(path, ids, depth)) {
      touch(*path.blocks[depth]);
      hit.state = checkpoint(path, depth);
      hit.cursor = Cursor(path.blocks[depth]);
      break;
    }
    limit = std::min(depth, std::ssize(path.blocks)) - 1;  // without its rows nothing behind a block helps
  }
  const auto last = [&](int64_t tokens) { return follow(root, ids, tokens / kKvPageTokens, false).blocks.back(); };
  if (state_.cuts_anywhere() && last(most)->length() == hit.state.length) add_rows(hit, *last(most), ids, most);
  if (with_fork) hit.fork = common_behind(*last(std::ssize(ids)), ids).fork;
  return hit;
}

}  // namespace quern
