// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_store.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

namespace quern {

namespace {

int64_t now_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();  // as files have it
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

size_t PrefixStore::KeyHash::operator()(const StoreKey& key) const {
  size_t hash;
  std::memcpy(&hash, key.bytes.data(), sizeof hash);
  return hash;
}

PrefixStore::PrefixStore(std::unique_ptr<PrefixFolder> folder, uint64_t fingerprint, int64_t cap_bytes,
                         int64_t queue_bytes)
    : folder_(std::move(folder)), fingerprint_(fingerprint), cap_bytes_(cap_bytes), queue_bytes_(queue_bytes) {}

Result<std::unique_ptr<PrefixStore>> PrefixStore::open(const std::filesystem::path& dir, uint64_t fingerprint,
                                                       int64_t cap_bytes, int64_t queue_bytes) {
  QUERN_TRY(auto folder, PrefixFolder::open(dir, fingerprint));
  std::unique_ptr<PrefixStore> store(new PrefixStore(std::move(folder), fingerprint, cap_bytes, queue_bytes));
  store->take_stock();
  try {
    store->writer_ = std::thread([self = store.get()] { self->run(); });
  } catch (const std::system_error& e) {
    return make_error(ErrorCode::out_of_memory, "{}: cannot start a thread: {}", dir.string(), e.what());
  }
  return store;
}

PrefixStore::~PrefixStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (writer_.joinable()) writer_.join();
}

void PrefixStore::take_stock() {
  folder_->remove_leftovers();
  for (const PrefixFolder::File& file : folder_->list()) {
    if (file.bytes > cap_bytes_) {
      folder_->remove(file.fingerprint, file.key);
      continue;
    }
    if (file.fingerprint == fingerprint_) {
      remember(file.key, file.bytes, file.used_ns);
    } else {
      stored_bytes_ += file.bytes;
      others_.push_back(file);
    }
  }
  make_room(0);
}

/// On the writer's thread, so that of this store's own entries none comes meanwhile; one may go, and is missed when it
/// is read.
void PrefixStore::look_again() {
  std::deque<PrefixFolder::File> others;
  std::unordered_set<StoreKey, KeyHash> here;
  const std::vector<PrefixFolder::File> files = folder_->list();
  for (const PrefixFolder::File& file : files) {
    if (file.fingerprint == fingerprint_)
      here.insert(file.key);
    else
      others.push_back(file);
  }
  const std::lock_guard lock(mutex_);
  for (const PrefixFolder::File& file : others_) stored_bytes_ -= file.bytes;
  for (const PrefixFolder::File& file : others) stored_bytes_ += file.bytes;
  others_ = std::move(others);
  for (auto use = uses_.begin(); use != uses_.end();) {
    const StoreKey key = *use++;
    if (!here.contains(key)) forget(key);
  }
  for (const PrefixFolder::File& file : files) {
    if (file.fingerprint != fingerprint_) continue;
    if (const auto known = index_.find(file.key); known != index_.end())
      known->second.used_ns = std::max(known->second.used_ns, file.used_ns);
    else
      remember(file.key, file.bytes, file.used_ns);
  }
  uses_.sort([&](const StoreKey& a, const StoreKey& b) { return index_.at(a).used_ns < index_.at(b).used_ns; });
}

bool PrefixStore::contains(const StoreKey& key) const {
  const std::lock_guard lock(mutex_);
  return index_.contains(key);
}

void PrefixStore::put(const StoreKey& key, std::vector<std::span<const std::byte>> parts,
                      std::function<void()> written) {
  const int64_t bytes = PrefixFolder::bytes_on_disk(parts);
  {
    const std::lock_guard lock(mutex_);
    const bool fits = bytes <= cap_bytes_ && (queue_.empty() || queued_bytes_ + bytes <= queue_bytes_);
    if (fits && !index_.contains(key) && !queued_.contains(key)) {
      queue_.push_back({key, std::move(parts), std::move(written), bytes});
      try {
        queued_.insert(key);
      } catch (...) {
        queue_.pop_back();
        throw;
      }
      queued_bytes_ += bytes;
      changed_.notify_all();
      return;
    }
  }
  written();
}

bool PrefixStore::get(const StoreKey& key, std::span<const std::span<std::byte>> parts) {
  if (!contains(key)) return false;
  const PrefixFolder::Found found = folder_->read(key, parts);
  if (found == PrefixFolder::Found::unreadable) return false;
  if (found == PrefixFolder::Found::damaged) folder_->remove(fingerprint_, key);
  const std::lock_guard lock(mutex_);
  if (found != PrefixFolder::Found::whole) {
    forget(key);
    return false;
  }
  if (const auto it = index_.find(key); it != index_.end()) {
    uses_.splice(uses_.end(), uses_, it->second.use);
    it->second.used_ns = now_ns();
  }
  return true;
}

void PrefixStore::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty(); });
}

std::optional<Error> PrefixStore::last_error() {
  const std::lock_guard lock(mutex_);
  return std::exchange(error_, std::nullopt);
}

int64_t PrefixStore::stored_bytes() const {
  const std::lock_guard lock(mutex_);
  return stored_bytes_;
}

int64_t PrefixStore::waiting_bytes() const {
  const std::lock_guard lock(mutex_);
  return queued_bytes_;
}

void PrefixStore::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Job& job = queue_.front();  // stays where it is while others are added
    lock.unlock();
    try {
      write(job);
    } catch (const std::bad_alloc&) {  // not written, as with a full disk
      const std::lock_guard failed(mutex_);
      if (!std::exchange(failing_, true)) error_ = Error{ErrorCode::out_of_memory, "out of memory"};
    }
    tried_.fetch_add(1, std::memory_order_relaxed);
    job.written();
    job.written = nullptr;  // what it holds must not end under the lock
    lock.lock();
    queued_bytes_ -= job.bytes;
    queued_.erase(job.key);
    queue_.pop_front();
    changed_.notify_all();
  }
}

void PrefixStore::write(const Job& job) {
  constexpr int64_t kParts = 32;
  written_bytes_ += job.bytes;
  if (written_bytes_ >= cap_bytes_ / kParts) {
    look_again();
    written_bytes_ = 0;
  }
  make_room(job.bytes);
  const Status status = folder_->write(job.key, job.parts);
  const std::lock_guard lock(mutex_);
  if (status) {
    remember(job.key, job.bytes, now_ns());
  } else if (!failing_) {
    error_ = status.error();
  }
  failing_ = !status.has_value();
}

void PrefixStore::make_room(int64_t bytes) {
  std::vector<PrefixFolder::File> leaving;
  {
    const std::lock_guard lock(mutex_);
    while (stored_bytes_ + bytes > cap_bytes_ && !(others_.empty() && uses_.empty())) {
      if (other_is_next()) {
        stored_bytes_ -= others_.front().bytes;
        leaving.push_back(others_.front());
        others_.pop_front();
      } else {
        leaving.push_back({.fingerprint = fingerprint_, .key = uses_.front(), .bytes = 0, .used_ns = 0});
        forget(uses_.front());
      }
    }
  }
  for (const PrefixFolder::File& file : leaving) folder_->remove(file.fingerprint, file.key);
}

/// To leave; one of the two is there.
bool PrefixStore::other_is_next() const {
  if (others_.empty() || uses_.empty()) return uses_.empty();
  return others_.front().used_ns <= index_.at(uses_.front()).used_ns;
}

void PrefixStore::forget(const StoreKey& key) {
  const auto it = index_.find(key);
  if (it == index_.end()) return;
  stored_bytes_ -= it->second.bytes;
  uses_.erase(it->second.use);
  index_.erase(it);
}

void PrefixStore::remember(const StoreKey& key, int64_t bytes, int64_t used_ns) {
  forget(key);                      // another process may have written it as well
  std::list<StoreKey> use = {key};  // first: where there is no memory for an entry, nothing has changed
  index_.emplace(key, Entry{bytes, used_ns, use.begin()});
  uses_.splice(uses_.end(), use);
  stored_bytes_ += bytes;
}

}  // namespace quern
