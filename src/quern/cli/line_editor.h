// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace quern {

/// Lines typed at a terminal, with editing, a history that is kept in a file, and pastes of several lines (libedit).
/// One at a time: it owns the terminal's modes while it reads.
class LineEditor {
 public:
  /// `history`: file to read and append to, made with its folders; empty: none is kept.
  LineEditor(std::string prompt, std::filesystem::path history);
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;
  ~LineEditor();

  enum class End { line, interrupted, end_of_input };
  struct Read {
    End end;
    std::string text;  ///< of a line, without its end; UTF-8
  };
  /// Waits for a line. Ctrl-C gives `interrupted` and drops what was typed, Ctrl-D on an empty line `end_of_input`.
  Read read();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern
