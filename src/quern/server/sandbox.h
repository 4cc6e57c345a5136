// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quern {

/// What a server still reads and writes once it is inside.
struct SandboxPaths {
  std::vector<std::filesystem::path> read;  ///< files and folders with all below, and what the links in them lead to
  std::vector<std::filesystem::path>
      write;  ///< folders: all below may be read, written, made and removed; made if absent
};

/// Gives up for good, as far as this kernel lets it, what a server of models never does after its start: opens no
/// connection, listens on nothing more, starts no program and no process, gains no rights, and touches no files but
/// those (system facts in /proc and /sys, and the time zone, can be read as well). What is open stays open: make
/// listening sockets first, and a datagram socket for systemd where one is wanted. Root keeps only the capabilities
/// that reading files takes.
///
/// Call it on the main thread before others start: seccomp covers all threads, the rest the calling thread and those
/// that it starts later.
///
/// Never fails. Says what holds and what does not, for the log: "sandbox: landlock 7, seccomp", or "sandbox: no
/// landlock (Function not implemented), seccomp".
std::string enter_sandbox(const SandboxPaths& paths);

/// Whether the sandbox alone keeps this process from reading a file or folder: its own rights let it. What is put in
/// the place of a file that may be read is another one, and shut. False where files were never restricted.
bool is_shut_by_sandbox(const std::filesystem::path& path);

}  // namespace quern
