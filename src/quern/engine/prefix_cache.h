// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quern/engine/prefix_store.h"
#include "quern/engine/sequence.h"

namespace quern {

/// State of prefixes that were read before, in blocks of one page (kKvPageTokens tokens), for who reads the same tokens
/// again: a tree per owner, each block after its parent's. Blocks are compared by their ids, never by a hash alone. A
/// block holds the pages of its rows and, where a prefix was kept to go on from, those of windows and the blobs of
/// recurrent state; a prefix resumes at the deepest block where all that its model needs is there, or where a sequence
/// ended, which need not be the end of a block; within a block too where state is rows alone. Nothing is copied: a
/// block shares pages with the sequence that wrote them.
///
/// What was used longest ago goes first, leaves before their parents, and of the owners the one that holds most. With
/// a store blocks are written there as well, and come back from there.
///
/// Engine thread only. Its pages count against the budget of the state store, which must outlive it.
class PrefixCache {
 public:
  class Block;

  /// A sequence's place in the tree: its last block that is kept, which stays while the cursor stands there.
  class Cursor {
   public:
    Cursor() = default;
    Cursor(Cursor&& other) noexcept : block_(std::exchange(other.block_, nullptr)), passing_(other.passing_) {}
    Cursor& operator=(Cursor&& other) noexcept {
      std::swap(block_, other.block_);
      std::swap(passing_, other.passing_);
      return *this;
    }
    ~Cursor();

   private:
    friend class PrefixCache;
    explicit Cursor(Block* block);
    Block* block_ = nullptr;
    int64_t passing_ = 0;  // depth of the block before it where its sequence left passing state; 0: none
  };

  /// `store` may be null; it must outlive the cache.
  explicit PrefixCache(StateStore& state, PrefixStore* store = nullptr);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Hit {
    Checkpoint state;  ///< length 0: nothing was found
    Cursor cursor;
    /// Where the tokens left what is known, if something else is known from there on.
    struct Fork {
      int64_t position;
      int32_t known_id;
    };
    std::optional<Fork> fork;
  };
  /// Brings in, from the store, at most about `bytes` of the rows that `find` needs for its best hit, and moves `at` to
  /// the last block that is here. True: call it again before `find`, which would read all the rest at once.
  bool bring_rows(std::string_view owner, std::span<const int32_t> ids, int64_t most, int64_t bytes, Cursor& at);
  /// The longest known prefix of `ids`, of at most `most` tokens, that a sequence can go on from. The fork is looked
  /// for where `with_fork` asks for it.
  Hit find(std::string_view owner, std::span<const int32_t> ids, int64_t most, bool with_fork = false);

  /// What `keep` keeps beside the rows.
  enum class State : uint8_t {
    none,
    lasting,  ///< all that is needed to go on here, if the sequence ends with a block
    passing,  ///< the same, until the cursor has come further: the newest end of a sequence
  };
  /// Keeps the whole blocks of a sequence that holds the first `sequence.length()` of `ids`, from its cursor on, and
  /// moves the cursor.
  void keep(std::string_view owner, std::span<const int32_t> ids, const Sequence& sequence, State state,
            Cursor& cursor);

  /// Keeps, in memory only, what a sequence that `keep` has kept holds behind its last whole block, to go on there.
  void keep_end(std::span<const int32_t> ids, const Sequence& sequence, const Cursor& cursor);

  /// Lets go of what was used longest ago: a block, a sequence's end, or what it holds to go on from where that weighs
  /// more. False: nothing could go.
  bool evict();
  /// Waits for the store where it still reads pages that nobody else holds; false: it reads none.
  bool settle();
  /// Lets go of pages that the store has written by now.
  void collect();

  int64_t blocks() const { return n_blocks_; }
  /// Of all pages and blobs in it, those that sequences share too.
  int64_t bytes() const { return bytes_; }

 private:
  struct Owner;
  struct Tail;
  /// The kinds of what a block holds, each an entry of the store.
  enum class Part : uint8_t { rows, windows, blobs };
  static constexpr int kParts = 3;

  Owner& owner(std::string_view name);
  Block* add(Block& parent, std::span<const int32_t> ids);
  void remove(Block& block);
  void hold(Block& block, Part part, std::vector<PageRef> pages);
  void drop(Block& block, Part part);
  std::vector<Tail>::iterator drop(Block& block, std::vector<Tail>::iterator tail);
  void keep_windows(Block& last, const Sequence& sequence);
  bool evict_state(Owner& owner);
  void touch(Block& block);

  std::vector<PageRef> pages_of(Part part, const Sequence& sequence, int64_t page) const;
  int64_t first_window_block(int64_t length) const;
  std::span<const int> items(Part part) const { return items_[static_cast<int>(part)]; }

  struct Path;
  struct Common {
    int64_t tokens = 0;
    const Block* child = nullptr;  // either
    Tail* tail = nullptr;
    std::optional<Hit::Fork> fork;  // where both go on
  };
  static Common common_behind(Block& block, std::span<const int32_t> ids);
  static Tail* tail_on(const Path& path, std::span<const int32_t> ids, int64_t most);
  void add_rows(Hit& hit, Block& last, std::span<const int32_t> ids, int64_t most);
  Path follow(Block& root, std::span<const int32_t> ids, int64_t limit, bool in_store = true) const;
  bool resumes(const Path& path, int64_t depth) const;
  int64_t resumable(const Path& path) const;
  bool bring_block(Path& path, std::span<const int32_t> ids);
  bool bring_in(Path& path, std::span<const int32_t> ids, int64_t depth);
  Checkpoint checkpoint(const Path& path, int64_t depth) const;

  // What lies in the store.
  bool stored(const StoreKey& key, Part part) const;
  bool load(Block& block, Part part);
  void write(const Block& block, Part part);

  StateStore& state_;
  PrefixStore* store_;
  std::vector<int> items_[kParts];  // constant after construction
  std::map<std::string, std::unique_ptr<Owner>, std::less<>> owners_;
  int64_t n_blocks_ = 0, bytes_ = 0;
  uint64_t clock_ = 0;  // of uses

  std::map<uint64_t, std::vector<PageRef>> writing_;  // pages that the store still reads
  uint64_t last_write_ = 0;
  struct Written {
    std::mutex mutex;
    std::vector<uint64_t> done;  // guarded by mutex
  };
  std::shared_ptr<Written> written_ = std::make_shared<Written>();
};

}  // namespace quern
