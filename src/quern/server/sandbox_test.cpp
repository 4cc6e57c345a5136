// SPDX-License-Identifier: Apache-2.0
// Each test goes into the sandbox in a child: there is no way out of it.
#include "quern/server/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "quern/engine/prefix_store.h"
#include "quern/server/landlock.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr int kUnsupported = 77;

/// In the child: what is not so ends it.
void require(bool holds, const char* what, int line) {
  if (holds) return;
  std::fprintf(stderr, "line %d: %s (errno: %s)\n", line, what, std::strerror(errno));
  ::_exit(1);
}
#define REQUIRE(condition) require(condition, #condition, __LINE__)

/// The call fails with that error.
#define REQUIRE_DENIED(call, code) \
  do {                             \
    errno = 0;                     \
    REQUIRE((call) == -1);         \
    REQUIRE(errno == (code));      \
  } while (false)

int in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);  // a call that hangs must not hang the test
    body();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

void enter(const SandboxPaths& paths, std::string_view needed) {
  const std::string said = enter_sandbox(paths);
  if (said.find(std::string(" ") + std::string(needed)) == said.npos ||
      said.find(fmt::format("no {}", needed)) != said.npos) {
    std::fprintf(stderr, "%s\n", said.c_str());
    ::_exit(kUnsupported);
  }
}

#define EXPECT_HOLDS(...)                                                                         \
  do {                                                                                            \
    const int quern_status = in_child(__VA_ARGS__);                                               \
    if (quern_status == kUnsupported) GTEST_SKIP() << "this kernel lacks it: nothing was tested"; \
    EXPECT_EQ(quern_status, 0);                                                                   \
  } while (false)

int dial(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = port, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? fd : -1;
}

struct Listening {
  int fd;
  uint16_t port;  // in network order
};
Listening listening() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t bytes = sizeof address;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 || ::listen(fd, 8) != 0) return {-1, 0};
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes);
  return {fd, address.sin_port};
}

class Sandbox : public testing::Test {
 protected:
  Sandbox() {
    std::string name = (fs::temp_directory_path() / "quern-sandbox-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    for (const fs::path& path : {models_ = folder_ / "models", outside_ = folder_ / "outside"}) {
      fs::create_directories(path / "below");
      std::ofstream(path / "below" / "file") << "content";
      std::ofstream(path / "file") << "content";
    }
    cache_ = folder_ / "state" / "cache";  // is made
    paths_ = {.read = {models_, folder_ / "absent"}, .write = {cache_}};
  }
  ~Sandbox() override { fs::remove_all(folder_); }

  static bool readable(const fs::path& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {}) == "content";
  }
  static int open(const fs::path& path, int flags) { return ::open(path.c_str(), flags | O_CLOEXEC, 0600); }

  fs::path folder_, models_, outside_, cache_;
  SandboxPaths paths_;
};

TEST_F(Sandbox, a_server_goes_on_with_the_socket_it_listens_on) {
  const Listening server = listening();
  ASSERT_GE(server.fd, 0);
  std::thread client([&] {
    const int fd = dial(server.port);
    char c = 'q';
    EXPECT_EQ(::write(fd, &c, 1), 1);
    pollfd wait{fd, POLLIN, 0};
    EXPECT_EQ(::poll(&wait, 1, 15'000), 1);
    EXPECT_EQ(::read(fd, &c, 1), 1);
    EXPECT_EQ(c, 'Q');
    ::close(fd);
  });
  const int status = in_child([&] {
    enter_sandbox(paths_);
    const int events = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = 7}};
    REQUIRE(::epoll_ctl(events, EPOLL_CTL_ADD, server.fd, &event) == 0);
    REQUIRE(::epoll_wait(events, &event, 1, 10'000) == 1 && event.data.u64 == 7);
    const int fd = ::accept4(server.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    REQUIRE(fd >= 0);
    pollfd wait{fd, POLLIN, 0};
    char c = 0;
    REQUIRE(::poll(&wait, 1, 10'000) == 1 && ::read(fd, &c, 1) == 1 && c == 'q');
    const int on = 1;
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
    c = 'Q';
    REQUIRE(::send(fd, &c, 1, MSG_NOSIGNAL) == 1);
  });
  client.join();
  ::close(server.fd);
  EXPECT_EQ(status, 0);
}

TEST_F(Sandbox, opens_no_connection) {
  const Listening server = listening();
  ASSERT_GE(server.fd, 0);
  const int early = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_HOLDS(([&] {
    enter(paths_, "seccomp");
    REQUIRE_DENIED(::socket(AF_INET, SOCK_STREAM, 0), EPERM);
    REQUIRE_DENIED(::socket(AF_INET6, SOCK_DGRAM, 0), EPERM);
    REQUIRE_DENIED(::socket(AF_UNIX, SOCK_STREAM, 0), EPERM);
    REQUIRE_DENIED(::socket(AF_NETLINK, SOCK_RAW, 0), EPERM);
    int pair[2];
    REQUIRE_DENIED(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), EPERM);
    sockaddr_in to{
        .sin_family = AF_INET, .sin_port = server.port, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    const auto* address = reinterpret_cast<const sockaddr*>(&to);
    REQUIRE_DENIED(::connect(early, address, sizeof to), EPERM);
    REQUIRE_DENIED(::bind(early, address, sizeof to), EPERM);
    REQUIRE_DENIED(::listen(early, 1), EPERM);
    REQUIRE_DENIED(::syscall(425, 8, nullptr), EPERM);  // io_uring_setup
  }));
  ::close(early);
  ::close(server.fd);
}

TEST_F(Sandbox, starts_no_program_and_no_process) {
  EXPECT_HOLDS([&] {
    enter(paths_, "seccomp");
    char name[] = "/bin/true";
    char* const arguments[] = {name, nullptr};
    REQUIRE_DENIED(::execve(name, arguments, environ), EPERM);
    REQUIRE_DENIED(::syscall(SYS_execveat, AT_FDCWD, name, arguments, environ, 0), EPERM);
    REQUIRE_DENIED(::fork(), EPERM);
    REQUIRE_DENIED(::syscall(SYS_clone, SIGCHLD, nullptr), EPERM);
    REQUIRE_DENIED(::syscall(435, nullptr, 0), ENOSYS);  // clone3
    pid_t child = 0;
    REQUIRE(::posix_spawn(&child, name, nullptr, nullptr, arguments, environ) != 0);
  });
}

TEST_F(Sandbox, reaches_neither_other_processes_nor_the_kernel) {
  const pid_t parent = ::getpid();
  EXPECT_HOLDS([&] {
    enter(paths_, "seccomp");
    REQUIRE_DENIED(::ptrace(PTRACE_ATTACH, parent, nullptr, nullptr), EPERM);
    REQUIRE_DENIED(::kill(parent, 0), EPERM);
    REQUIRE_DENIED(::kill(-1, 0), EPERM);
    REQUIRE(::kill(::getpid(), 0) == 0);
    REQUIRE_DENIED(::syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr), EPERM);
    REQUIRE_DENIED(::syscall(SYS_bpf, 0, nullptr, 0), EPERM);
    REQUIRE_DENIED(::syscall(SYS_unshare, 0x10000000), EPERM);
    REQUIRE_DENIED(::syscall(SYS_kexec_load, 0, 0, nullptr, 0), EPERM);
    REQUIRE_DENIED(::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0), EPERM);
    REQUIRE_DENIED(::setuid(::getuid()), EPERM);
    REQUIRE_DENIED(::syscall(451 + 40), ENOSYS);  // a call of some later kernel
#ifdef __x86_64__
    REQUIRE_DENIED(::syscall(0x40000000 + SYS_getpid), EPERM);  // x32
#endif
    REQUIRE(::prctl(PR_GET_DUMPABLE) == 0);
    REQUIRE(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  });
}

TEST_F(Sandbox, sees_its_folders_alone) {
  fs::create_symlink(outside_ / "file", models_ / "to_a_file");  // as folders of downloads have them
  fs::create_directory_symlink(outside_ / "below", models_ / "to_a_folder");
  EXPECT_HOLDS([&] {
    REQUIRE(readable(outside_ / "below" / "file"));
    enter(paths_, "landlock");
    REQUIRE(readable(models_ / "file") && readable(models_ / "below" / "file"));
    REQUIRE(fs::exists(models_ / "below"));
    REQUIRE(fs::directory_iterator(models_) != fs::directory_iterator());
    REQUIRE(readable(models_ / "to_a_file"));
    REQUIRE(!readable(models_ / "to_a_folder" / "file"));
    REQUIRE_DENIED(open(outside_ / "below" / "file", O_RDONLY), EACCES);
    REQUIRE_DENIED(open(models_ / ".." / "outside" / "below" / "file", O_RDONLY), EACCES);
    REQUIRE_DENIED(open(outside_, O_RDONLY | O_DIRECTORY), EACCES);
    REQUIRE_DENIED(open("/etc/passwd", O_RDONLY), EACCES);
    REQUIRE_DENIED(open(outside_ / "new", O_WRONLY | O_CREAT), EACCES);
    // For reading only.
    REQUIRE_DENIED(open(models_ / "file", O_WRONLY), EACCES);
    REQUIRE_DENIED(open(models_ / "new", O_WRONLY | O_CREAT), EACCES);
    REQUIRE_DENIED(::unlink((models_ / "file").c_str()), EACCES);
    REQUIRE_DENIED(::rename((models_ / "file").c_str(), (models_ / "other").c_str()), EACCES);
    REQUIRE_DENIED(::mkdir((models_ / "folder").c_str(), 0700), EACCES);
    REQUIRE_DENIED(::link((outside_ / "below" / "file").c_str(), (cache_ / "linked").c_str()), EXDEV);
    REQUIRE_DENIED(::symlink("/etc/passwd", (cache_ / "symbolic").c_str()), EACCES);
  });
  EXPECT_TRUE(readable(models_ / "file"));
}

TEST_F(Sandbox, tells_what_it_alone_keeps_shut) {
  paths_.read = {models_ / "file"};
  fs::permissions(outside_ / "file", fs::perms::none);
  EXPECT_HOLDS([&] {
    REQUIRE(!is_shut_by_sandbox(models_ / "file") && !is_shut_by_sandbox(models_ / "below"));
    enter(paths_, "landlock");
    REQUIRE(!is_shut_by_sandbox(models_ / "file") && !is_shut_by_sandbox(models_ / "absent"));
    REQUIRE(is_shut_by_sandbox(models_ / "below" / "file") && is_shut_by_sandbox(models_ / "below"));
    if (::geteuid() != 0) REQUIRE(!is_shut_by_sandbox(outside_ / "file"));  // its rights do that too
  });
}

TEST_F(Sandbox, is_not_blamed_before_it_was_entered) {
  EXPECT_HOLDS([&] {
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (!restrict_files(paths_)) ::_exit(kUnsupported);  // as who starts a program may do
    REQUIRE_DENIED(open(outside_ / "file", O_RDONLY), EACCES);
    REQUIRE(!is_shut_by_sandbox(outside_ / "file"));
  });
}

TEST_F(Sandbox, another_process_keeps_its_secrets) {
  const pid_t parent = ::getpid();
  EXPECT_HOLDS([&] {
    enter(paths_, "landlock");
    REQUIRE(open(fmt::format("/proc/{}/environ", parent), O_RDONLY) == -1);
    REQUIRE(open(fmt::format("/proc/{}/mem", parent), O_RDONLY) == -1);
    REQUIRE(open(fmt::format("/proc/{}/root/etc/passwd", parent), O_RDONLY) == -1);
  });
}

TEST_F(Sandbox, the_stored_prefixes_work_within) {
  const auto body = [&] {
    enter_sandbox(paths_);
    auto store = PrefixStore::open(cache_, 1, 1 << 20);
    REQUIRE(store.has_value());
    const std::vector<std::byte> bytes(10'000, std::byte{7});
    for (int i = 0; i < 120; ++i) {  // the cap removes the first
      StoreKey key{};
      key.bytes[0] = std::byte(i);
      (*store)->put(key, {bytes}, [] {});
      (*store)->flush();
    }
    REQUIRE(!(*store)->last_error());
    REQUIRE(!(*store)->contains(StoreKey{}));
    StoreKey last{};
    last.bytes[0] = std::byte{119};
    std::vector<std::byte> found(bytes.size());
    const std::span<std::byte> part(found);
    REQUIRE((*store)->get(last, {&part, 1}) && found == bytes);
    store->reset();
    REQUIRE(PrefixStore::open(cache_, 2, 1 << 20).has_value());
    std::ofstream(cache_ / "plain") << "content";
    REQUIRE(readable(cache_ / "plain"));
    REQUIRE(::truncate((cache_ / "plain").c_str(), 1) == 0);
    REQUIRE(::rename((cache_ / "plain").c_str(), (cache_ / "moved").c_str()) == 0);
    REQUIRE(fs::create_directories(cache_ / "a" / "b"));
    REQUIRE(fs::remove_all(cache_ / "a") == 2);
  };
  EXPECT_EQ(in_child(body), 0);
  struct stat facts;
  ASSERT_EQ(::stat(cache_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700u);
}

TEST_F(Sandbox, what_an_engine_needs_goes_on) {
  EXPECT_EQ(in_child([&] {
              enter_sandbox(paths_);
              std::mutex mutex;
              std::condition_variable changed;
              int started = 0;
              std::vector<std::thread> threads;
              for (int i = 0; i < 8; ++i)
                threads.emplace_back([&] {
                  const std::lock_guard lock(mutex);
                  ++started;
                  changed.notify_all();
                });
              {
                std::unique_lock lock(mutex);
                REQUIRE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return started == 8; }));
              }
              for (std::thread& thread : threads) thread.join();
              void* memory = ::mmap(nullptr, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              REQUIRE(memory != MAP_FAILED);
              ::madvise(memory, 4 << 20, MADV_HUGEPAGE);
              std::memset(memory, 1, 4 << 20);
              REQUIRE(::munmap(memory, 4 << 20) == 0);
              const int file = open(models_ / "file", O_RDONLY);
              void* mapped = ::mmap(nullptr, 7, PROT_READ, MAP_SHARED, file, 0);
              REQUIRE(mapped != MAP_FAILED && std::memcmp(mapped, "content", 7) == 0);
              const int event = ::eventfd(0, EFD_CLOEXEC), timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
              REQUIRE(event >= 0 && timer >= 0);
              const itimerspec soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1'000'000}};
              REQUIRE(::timerfd_settime(timer, 0, &soon, nullptr) == 0);
              uint64_t ticks = 0;
              REQUIRE(::read(timer, &ticks, sizeof ticks) == sizeof ticks && ticks >= 1);
              REQUIRE(std::ifstream("/proc/meminfo").get() == 'M');
              REQUIRE(std::ifstream("/proc/self/status").get() == 'N');
              REQUIRE(std::ifstream("/dev/urandom").get() != EOF);
              static std::atomic<bool> caught = false;
              std::signal(SIGUSR1, [](int) { caught = true; });
              REQUIRE(std::raise(SIGUSR1) == 0 && caught);
              const time_t now = ::time(nullptr);
              tm local;
              REQUIRE(::localtime_r(&now, &local) != nullptr);
            }),
            0);
}

TEST_F(Sandbox, calls_are_denied_to_threads_that_ran_before_and_the_text_says_what_holds) {
  EXPECT_HOLDS([&] {
    std::atomic<int> step = 0, denied = 0;
    std::thread earlier([&] {
      while (step != 1) std::this_thread::yield();
      denied = ::socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EPERM;
    });
    const std::string said = enter_sandbox(paths_);
    if (!said.ends_with(", seccomp")) ::_exit(kUnsupported);
    step = 1;
    earlier.join();
    REQUIRE(denied == 1);
    REQUIRE(said.starts_with("sandbox: "));
    REQUIRE(said.find('\n') == said.npos);
    if (said.starts_with("sandbox: landlock ") && said[18] < '8')
      REQUIRE(said.find("but for 1 threads that ran already") != said.npos);
  });
}

}  // namespace
}  // namespace quern
