// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "quern/base/sha256.h"
#include "quern/io/atomic_file.h"
#include "quern/io/system_error.h"
#include "quern/server/byte_budget.h"
#include "quern/server/response_store.h"

namespace quern {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kEnding = ".json";
constexpr size_t kGroupDigits = 32, kFileDigits = 64;
constexpr int64_t kBlockBytes = 4096;                 // what a small file takes: caps their number too
constexpr int64_t kPendingBytes = int64_t{64} << 20;  // on the way to a disk that is too slow

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string hash(std::string_view text) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(text)));
  return sha.finish();
}

int64_t whole_blocks(int64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

/// Where a response lies: its owner's folder and its file in it.
struct Place {
  Place(std::string_view owner, std::string_view id)
      : group(hash(owner).substr(0, kGroupDigits)),
        key(group + "/" + hash(std::string(owner).append(1, '\0').append(id)) + std::string(kEnding)) {}
  std::string group, key;
};

bool is_file_name(std::string_view name) {
  return name.ends_with(kEnding) && is_hex(name.substr(0, name.size() - kEnding.size()), kFileDigits);
}

/// What AtomicFile leaves behind when it is killed: "<hash>.json.<process>-<count>.part".
bool is_leftover(std::string_view name) {
  return name.ends_with(".part") && name.size() > kFileDigits + kEnding.size() &&
         is_file_name(name.substr(0, kFileDigits + kEnding.size()));
}

/// A regular file of ours, never through a link, neither its own nor its folder's.
std::optional<std::string> read_own_file(const fs::path& path, int64_t limit_bytes) {
  const int parent = ::open(path.parent_path().c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (parent < 0) return std::nullopt;
  const int fd = ::openat(parent, path.filename().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  ::close(parent);
  if (fd < 0) return std::nullopt;
  struct stat facts;
  std::optional<std::string> text;
  if (::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_uid == ::geteuid() &&
      facts.st_size <= limit_bytes) {
    text.emplace(static_cast<size_t>(facts.st_size), '\0');
    size_t done = 0;
    while (done < text->size()) {
      const ssize_t n = ::read(fd, text->data() + done, text->size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      done += static_cast<size_t>(n);
    }
    if (done < text->size()) text.reset();
    ::futimens(fd, nullptr);  // used now; if that cannot be noted it only ages faster
  }
  ::close(fd);
  return text;
}

Status make_own_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(path, "cannot make the folder");
  struct stat facts;
  if (::lstat(path.c_str(), &facts) != 0) return system_error(path, "cannot look at it");
  if (!S_ISDIR(facts.st_mode))
    return make_error(ErrorCode::invalid_argument, "{}: expected a folder, found {}", path.string(),
                      file_kind(facts.st_mode));
  if (facts.st_uid != ::geteuid())
    return make_error(ErrorCode::invalid_argument, "{}: expected a folder of this user, found one of user {}",
                      path.string(), facts.st_uid);
  if (::chmod(path.c_str(), 0700) != 0) return system_error(path, "cannot close it to others");
  return {};
}

}  // namespace

struct DiskResponseStore::Impl {
  Impl(fs::path where, int64_t cap) : folder(std::move(where)), cap_bytes(cap), budget(cap) {}

  void index();
  void write_all();
  Status write(const std::string& key, const std::string& text);
  void enqueue(std::string key, std::shared_ptr<const std::string> text);
  void fail(Error error);
  bool exists(const std::string& key) const;

  // constant after construction
  const fs::path folder;
  const int64_t cap_bytes;

  mutable std::mutex mutex;
  std::condition_variable changed;
  // guarded by mutex
  ByteBudget budget;
  std::deque<std::string> queue;  // keys to write or remove, in order
  std::unordered_map<std::string, std::shared_ptr<const std::string>>
      pending;  // by key, the newest; null: to be removed
  int64_t pending_bytes = 0;
  std::optional<Error> failure;  // not told yet
  bool failing = false;          // it was told, or will be
  bool busy = false, stopping = false;

  std::thread writer;
};

/// Lists what is there. Anything whose name or kind is not ours stays where it is, unseen.
void DiskResponseStore::Impl::index() {
  struct Found {
    timespec used;
    std::string group, key;
    int64_t bytes;
  };
  std::vector<Found> found;
  std::error_code ignored;
  for (fs::directory_iterator group(folder, ignored), end; group != end; group.increment(ignored)) {
    const std::string group_name = group->path().filename().string();
    if (!is_hex(group_name, kGroupDigits) || !group->is_directory(ignored) || group->is_symlink(ignored)) continue;
    for (fs::directory_iterator file(group->path(), ignored); file != end; file.increment(ignored)) {
      const std::string name = file->path().filename().string();
      struct stat facts;
      if (::lstat(file->path().c_str(), &facts) != 0 || !S_ISREG(facts.st_mode) || facts.st_uid != ::geteuid())
        continue;
      if (is_leftover(name)) ::unlink(file->path().c_str());
      if (is_file_name(name))
        found.push_back({facts.st_mtim, group_name, group_name + "/" + name, whole_blocks(facts.st_size)});
    }
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tie(a.used.tv_sec, a.used.tv_nsec, a.key) < std::tie(b.used.tv_sec, b.used.tv_nsec, b.key);
  });
  for (const Found& f : found)
    for (const std::string& gone : budget.add(f.group, f.key, f.bytes)) ::unlink((folder / gone).c_str());
}

Status DiskResponseStore::Impl::write(const std::string& key, const std::string& text) {
  const fs::path path = folder / key;
  QUERN_TRY_STATUS(make_own_folder(path.parent_path()));
  QUERN_TRY(AtomicFile file, AtomicFile::create(path, 0600));
  QUERN_TRY_STATUS(file.write(std::as_bytes(std::span(text))));
  return file.commit();
}

/// The writer thread: the one that changes files.
void DiskResponseStore::Impl::write_all() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || !queue.empty(); });
    if (queue.empty()) return;
    const std::string key = std::move(queue.front());
    queue.pop_front();
    const auto found = pending.find(key);
    if (found == pending.end()) {  // an earlier turn has written its newest text
      changed.notify_all();
      continue;
    }
    const std::shared_ptr<const std::string> text = found->second;
    const std::vector<std::string> gone =
        text ? budget.add(key.substr(0, kGroupDigits), key, whole_blocks(static_cast<int64_t>(text->size())))
             : std::vector<std::string>{key};
    if (!text) budget.remove(key);
    const bool fits = std::find(gone.begin(), gone.end(), key) == gone.end();
    busy = true;
    lock.unlock();
    for (const std::string& other : gone) ::unlink((folder / other).c_str());
    const Status status = text && fits ? write(key, *text) : Status();
    lock.lock();
    busy = false;
    if (!status) {
      fail(status.error());
      budget.remove(key);
    } else if (text && fits) {
      failing = false;
    }
    // Unless it has changed meanwhile: then its next turn comes.
    if (const auto now = pending.find(key); now != pending.end() && now->second == text) {
      if (text) pending_bytes -= static_cast<int64_t>(text->size());
      pending.erase(now);
    }
    changed.notify_all();
  }
}

/// Under the mutex.
void DiskResponseStore::Impl::enqueue(std::string key, std::shared_ptr<const std::string> text) {
  std::shared_ptr<const std::string>& slot = pending[key];
  if (slot) pending_bytes -= static_cast<int64_t>(slot->size());
  if (text) pending_bytes += static_cast<int64_t>(text->size());
  slot = std::move(text);
  queue.push_back(std::move(key));
  changed.notify_all();
}

/// Under the mutex.
void DiskResponseStore::Impl::fail(Error error) {
  if (!std::exchange(failing, true)) failure = std::move(error);
}

bool DiskResponseStore::Impl::exists(const std::string& key) const {
  struct stat facts;
  return ::lstat((folder / key).c_str(), &facts) == 0 && S_ISREG(facts.st_mode);
}

Result<std::unique_ptr<DiskResponseStore>> DiskResponseStore::open(const fs::path& folder, int64_t cap_bytes) {
  std::error_code error;
  if (folder.has_parent_path()) fs::create_directories(folder.parent_path(), error);
  QUERN_TRY_STATUS(make_own_folder(folder));
  auto impl = std::make_unique<Impl>(folder, cap_bytes);
  impl->index();
  impl->writer = std::thread([raw = impl.get()] { raw->write_all(); });
  return std::unique_ptr<DiskResponseStore>(new DiskResponseStore(std::move(impl)));
}

DiskResponseStore::DiskResponseStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

/// What is on its way is written first.
DiskResponseStore::~DiskResponseStore() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->writer.join();
}

void DiskResponseStore::put(std::string_view owner, std::string_view id, std::string record) {
  // The names are hashes; the owner and the id within tell a file that was copied to another name.
  auto text = std::make_shared<const std::string>(
      fmt::format(R"({{"owner":{},"id":{},"record":{}}})", json_quote(owner), json_quote(id), record));
  const auto bytes = static_cast<int64_t>(text->size());
  Place place(owner, id);
  const std::lock_guard lock(impl_->mutex);
  if (bytes > impl_->cap_bytes || impl_->pending_bytes + bytes > kPendingBytes) {
    impl_->fail(make_error(ErrorCode::out_of_memory, "{}: a response of {} bytes was not stored: {}",
                           impl_->folder.string(), bytes,
                           bytes > impl_->cap_bytes ? "larger than the store" : "the disk is too slow"));
    return;
  }
  impl_->enqueue(std::move(place.key), std::move(text));
}

std::optional<Json> DiskResponseStore::get(std::string_view owner, std::string_view id) {
  const Place place(owner, id);
  std::shared_ptr<const std::string> pending;
  {
    const std::lock_guard lock(impl_->mutex);
    if (const auto found = impl_->pending.find(place.key); found != impl_->pending.end()) {
      pending = found->second;
      if (!pending) return std::nullopt;
    }
    impl_->budget.touch(place.key);
  }
  std::optional<std::string> read;
  if (!pending) read = read_own_file(impl_->folder / place.key, impl_->cap_bytes);
  if (!pending && !read) return std::nullopt;
  const auto file = Json::parse(pending ? *pending : *read);
  if (!file) return std::nullopt;
  const Json *file_owner = file->find("owner"), *file_id = file->find("id"), *record = file->find("record");
  if (!file_owner || !file_id || !record || *file_owner != Json(owner) || *file_id != Json(id)) return std::nullopt;
  return *record;
}

bool DiskResponseStore::remove(std::string_view owner, std::string_view id) {
  // Only what `get` would show is there: a stranger's file under the name stays.
  if (!get(owner, id)) return false;
  Place place(owner, id);
  const std::lock_guard lock(impl_->mutex);
  if (const auto found = impl_->pending.find(place.key);
      found != impl_->pending.end() ? !found->second : !impl_->exists(place.key))
    return false;  // somebody else was faster
  impl_->enqueue(std::move(place.key), nullptr);
  return true;
}

void DiskResponseStore::flush() {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->queue.empty() && !impl_->busy; });
}

std::optional<Error> DiskResponseStore::last_error() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->failure, std::nullopt);
}

}  // namespace quern
