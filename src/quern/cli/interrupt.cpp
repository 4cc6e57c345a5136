// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/interrupt.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

namespace quern {
namespace {

// Read and written by the handler: lock-free atomics only.
std::atomic<bool> flag{false}, ended{false}, modes_known{false};
static_assert(std::atomic<bool>::is_always_lock_free);
termios modes;  // written before modes_known

void on_signal(int signal) {
  if (signal != SIGINT) ended.store(true);
  if (!flag.exchange(true)) return;
  if (modes_known.load()) tcsetattr(STDIN_FILENO, TCSANOW, &modes);  // async-signal-safe (signal-safety(7))
  _exit(130);
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action{};
  action.sa_handler = on_signal;  // no SA_RESTART: a wait for input ends
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before{};
    // What the parent had set to be ignored (nohup, a background job of a plain shell) stays ignored.
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN && signal != SIGTERM) continue;
    sigaction(signal, &action, nullptr);
  }
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
}

std::atomic<bool>& interrupt_flag() { return flag; }

bool terminated() { return ended.load(std::memory_order_relaxed); }

void remember_terminal_modes() {
  if (!modes_known.load() && tcgetattr(STDIN_FILENO, &modes) == 0) modes_known.store(true);
}

}  // namespace quern
