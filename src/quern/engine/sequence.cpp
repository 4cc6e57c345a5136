// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/sequence.h"

#include <algorithm>
#include <cstring>

#include "quern/engine/paging.h"

namespace quern {

StateStore::StateStore(std::span<const StateItem> items, KvType kv, int64_t budget_bytes)
    : items_(items), kv_(kv), budget_(budget_bytes) {
  for (const StateItem& item : items_) {
    if (item.kind == StateKind::borrowed) {
      QUERN_CHECK(item.owner >= 0 && item.owner < static_cast<int>(items_.size()) && keeps_pages(items_[item.owner]),
                  "a borrowed item without owner");
      pools_of_items_.push_back(nullptr);
      continue;
    }
    has_fixed_ |= item.kind == StateKind::fixed;
    has_window_ |= item.kind == StateKind::window;
    const int64_t bytes = keeps_pages(item) ? item_layout(item, kv).page_bytes() : blob_bytes(item);
    auto& pool = pools_[bytes];
    if (!pool) pool = std::make_unique<PagePool>(bytes, budget_);
    pools_of_items_.push_back(pool.get());
  }
}

KvLayout StateStore::layout(int item) const {
  const StateItem& it = items_[item];
  return item_layout(it.kind == StateKind::borrowed ? items_[it.owner] : it, kv_);
}

std::vector<PageRef> StateStore::to_be_touched(int64_t bytes, int64_t at_once) {
  // Where room is short it is worth more as room: what lies ready in one pool would go again for another.
  bytes = std::min(bytes, budget_.limit() / 8);
  int64_t block = 0;                    // of 64 tokens
  std::map<int64_t, int64_t> of_block;  // pages, by their bytes
  for (int i = 0; i < static_cast<int>(items_.size()); ++i)
    if (keeps_pages(items_[i])) {
      block += pools_of_items_[i]->page_bytes();
      ++of_block[pools_of_items_[i]->page_bytes()];
    }
  std::vector<PageRef> pages;
  for (const auto& [page_bytes, count] : of_block) {
    PagePool& pool = *pools_[page_bytes];
    for (int64_t more = bytes / block * count - pool.idle(); more > 0 && at_once > 0; --more, at_once -= page_bytes) {
      if (budget_.room() < bytes + page_bytes) return pages;
      PageRef page = pool.untouched();
      if (!page) return pages;
      pages.push_back(std::move(page));
    }
  }
  return pages;
}

int64_t StateStore::pages_in_use() const {
  int64_t n = 0;
  for (const auto& [bytes, pool] : pools_) n += pool->in_use();
  return n;
}

int64_t state_bytes(std::span<const StateItem> items, KvType kv, int64_t tokens, int64_t chunk) {
  int64_t bytes = 0;
  for (const StateItem& item : items) {
    if (item.kind == StateKind::fixed) bytes += blob_bytes(item);
    if (item.kind == StateKind::rows) bytes += pages_for(tokens) * item_layout(item, kv).page_bytes();
    if (item.kind == StateKind::window)
      bytes += std::min(pages_for(tokens), pages_for(item.window + chunk) + 1) * item_layout(item, kv).page_bytes();
  }
  return bytes;
}

int64_t checkpoint_bytes(std::span<const StateItem> items, KvType kv) {
  int64_t bytes = 0;
  for (const StateItem& item : items) {
    if (item.kind == StateKind::fixed) bytes += blob_bytes(item);
    if (item.kind == StateKind::window) bytes += (pages_for(item.window) + 1) * item_layout(item, kv).page_bytes();
  }
  return bytes;
}

int64_t journal_bytes(std::span<const StateItem> items) {
  int64_t floats = 0;
  for (const StateItem& item : items) floats += item.journal_floats;
  return 4 * floats;
}

Sequence::Sequence(StateStore& store)
    : store_(&store),
      pages_(store.items().size()),
      fixed_(store.items().size()),
      tables_(store.items().size()),
      views_(store.items().size()) {
  for (size_t i = 0; i < views_.size(); ++i)
    if (store.items()[i].kind != StateKind::fixed) views_[i].rows.layout = store.layout(static_cast<int>(i));
}

Status Sequence::grow(int item, int64_t tokens) {
  PagePool& pool = *store_->pool(item);
  std::vector<PageRef>& pages = pages_[item];
  // Copy on write: the step writes from the page of its first token on.
  for (size_t p = length_ / kKvPageTokens; p < pages.size(); ++p) {
    if (!pages[p].shared()) continue;
    QUERN_TRY(pages[p], pool.copy(pages[p]));
    tables_[item][p] = pages[p].data();
  }
  while (static_cast<int64_t>(pages.size()) < pages_for(length_ + tokens)) {
    QUERN_TRY(PageRef page, pool.get());
    tables_[item].resize(pages.size() + 1);
    tables_[item].back() = page.data();
    pages.push_back(std::move(page));
  }
  return {};
}

void Sequence::drop_pages_behind(int64_t length) {
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (static_cast<int64_t>(pages_[i].size()) <= pages_for(length)) continue;
    pages_[i].resize(pages_for(length));
    tables_[i].resize(pages_for(length));
  }
}

void Sequence::abandon() { drop_pages_behind(length_); }

Result<std::span<const StateView>> Sequence::prepare(int64_t tokens) {
  const std::span<const StateItem> items = store_->items();
  for (int i = 0; i < static_cast<int>(items.size()); ++i) {
    if (keeps_pages(items[i])) {
      if (Status grown = grow(i, tokens); !grown) return abandon(), std::move(grown).error();
    } else if (items[i].kind == StateKind::fixed) {
      PagePool& pool = *store_->pool(i);
      if (!fixed_[i] || fixed_[i].shared()) {
        Result<PageRef> blob = fixed_[i] ? pool.copy(fixed_[i]) : pool.get();
        if (!blob) return abandon(), std::move(blob).error();
        if (!fixed_[i]) std::memset(blob->data(), 0, pool.page_bytes());
        fixed_[i] = *std::move(blob);
      }
    }
  }
  for (int i = 0; i < static_cast<int>(items.size()); ++i) {
    views_[i].rows.pages = tables_[items[i].kind == StateKind::borrowed ? items[i].owner : i];
    views_[i].fixed = reinterpret_cast<float*>(fixed_[i].data());
  }
  return std::span<const StateView>(views_);
}

void Sequence::commit(int64_t tokens) {
  length_ += tokens;
  drop_pages_behind(length_);
  const std::span<const StateItem> items = store_->items();
  for (size_t i = 0; i < items.size(); ++i) {
    for (int64_t p = first_live_page(items[i], length_) - 1; p >= 0 && pages_[i][p]; --p) {
      pages_[i][p].reset();
      tables_[i][p] = nullptr;
    }
  }
}

bool Sequence::can_truncate(int64_t length) const {
  if (length < 0 || length > length_) return false;
  if (length == length_) return true;
  if (store_->has_fixed()) return length == 0;
  const std::span<const StateItem> items = store_->items();
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].kind == StateKind::window && length > 0 && !pages_[i][first_live_page(items[i], length)]) return false;
  }
  return true;
}

void Sequence::truncate(int64_t length) {
  QUERN_CHECK(can_truncate(length), "cut back to where the state does not reach");
  drop_pages_behind(length);
  if (length == 0)
    for (PageRef& blob : fixed_) blob.reset();
  length_ = length;
}

const PageRef* Sequence::page(int item, int64_t page) const {
  const std::vector<PageRef>& pages = pages_[item];
  return page < static_cast<int64_t>(pages.size()) && pages[page] ? &pages[page] : nullptr;
}

void Sequence::restore(const Checkpoint& checkpoint) {
  length_ = checkpoint.length;
  pages_ = checkpoint.pages;
  fixed_ = checkpoint.fixed;
  for (size_t i = 0; i < pages_.size(); ++i) {
    tables_[i].clear();
    for (const PageRef& page : pages_[i]) tables_[i].push_back(page.data());
  }
}

Sequence Sequence::fork() const {
  Sequence copy(*store_);
  copy.restore(checkpoint());
  return copy;
}

}  // namespace quern
