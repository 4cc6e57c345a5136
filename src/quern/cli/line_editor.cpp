// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cwchar>
#include <system_error>

#include "quern/base/utf8.h"
#include "quern/cli/interrupt.h"

namespace quern {
namespace {

constexpr int kHistoryLines = 1000;
constexpr std::string_view kPasteOn = "\033[?2004h", kPasteOff = "\033[?2004l", kPasteEnd = "\033[201~";
/// Stands for a line break inside the edited line, which libedit would take for its end.
constexpr wchar_t kBreak = 0x23CE;  // RETURN SYMBOL
constexpr std::string_view kBreakText = "\xE2\x8F\x8E";
constexpr size_t kMostPasted = size_t{8} << 20;

void put(std::string_view text) {
  [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
}

std::string with_line_breaks(std::string_view line) {
  std::string out;
  for (size_t at = 0; at < line.size();) {
    if (line.substr(at).starts_with(kBreakText)) {
      out += '\n';
      at += kBreakText.size();
    } else {
      out += line[at++];
    }
  }
  return out;
}

std::string to_utf8(const wchar_t* line, int length) {
  std::string out;
  for (int i = 0; i < length; ++i) utf8_append(out, static_cast<char32_t>(line[i]));
  return out;
}

}  // namespace

struct LineEditor::Impl {
  std::string prompt;
  std::wstring wide_prompt;
  std::filesystem::path history_file;
  EditLine* editor = nullptr;
  HistoryW* history = nullptr;
  HistEventW event{};
  bool interrupted = false;
  std::string pending;  // bytes read and not yet given to libedit

  /// One more byte of the terminal; nothing at its end or after Ctrl-C.
  std::optional<char> byte() {
    char c = 0;
    while (!quern::interrupted()) {
      const ssize_t n = ::read(STDIN_FILENO, &c, 1);
      if (n == 1) return c;
      if (n == 0 || errno != EINTR) return std::nullopt;  // EINTR: Ctrl-C, or the window changed its size
    }
    interrupted = true;
    return std::nullopt;
  }

  /// The next character: decodes UTF-8 itself, whatever the locale.
  std::optional<char32_t> character() {
    std::string bytes;
    while (true) {
      const auto next = byte();
      if (!next) return std::nullopt;
      bytes += *next;
      const Utf8Step step = utf8_decode(bytes);
      if (!step.incomplete) return step.valid ? step.code_point : U'\uFFFD';
    }
  }

  /// What stands between the marks of a paste, line breaks as kBreak.
  std::wstring pasted() {
    std::string bytes;
    while (!bytes.ends_with(kPasteEnd)) {
      const auto next = byte();
      if (!next) return {};
      if (bytes.size() < kMostPasted)
        bytes += *next;
      else
        bytes = bytes.substr(bytes.size() - kPasteEnd.size()) + *next;  // too long: keeps looking for the end
    }
    bytes.resize(bytes.size() - kPasteEnd.size());
    std::wstring out;
    for (std::string_view left = bytes; !left.empty();) {
      const Utf8Step step = utf8_decode(left);
      left.remove_prefix(step.length);
      if (step.code_point == '\r' && left.starts_with('\n')) continue;
      const bool line_break = step.code_point == '\r' || step.code_point == '\n';
      if (line_break)
        out += kBreak;
      else if (step.code_point == '\t')
        out += L' ';
      else if (step.code_point >= 0x20 && step.code_point != 0x7f)
        out += static_cast<wchar_t>(step.code_point);
    }
    return out;
  }
};

namespace {

LineEditor::Impl& self(EditLine* editor) {
  void* data = nullptr;
  el_wget(editor, EL_CLIENTDATA, &data);
  return *static_cast<LineEditor::Impl*>(data);
}

int read_character(EditLine* editor, wchar_t* out) {
  const auto c = self(editor).character();
  if (!c) return 0;
  *out = static_cast<wchar_t>(*c);
  return 1;
}

wchar_t* show_prompt(EditLine* editor) { return self(editor).wide_prompt.data(); }

unsigned char take_paste(EditLine* editor, wint_t) {
  const std::wstring text = self(editor).pasted();
  return text.empty() || el_winsertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

}  // namespace

LineEditor::LineEditor(std::string prompt, std::filesystem::path history) : impl_(std::make_unique<Impl>()) {
  impl_->prompt = std::move(prompt);
  impl_->wide_prompt.assign(impl_->prompt.begin(), impl_->prompt.end());
  impl_->history_file = std::move(history);
  remember_terminal_modes();

  impl_->history = history_winit();
  history_w(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  history_w(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  if (!impl_->history_file.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(impl_->history_file.parent_path(), ignored);
    history_w(impl_->history, &impl_->event, H_LOAD, impl_->history_file.c_str());
  }

  EditLine* editor = el_init("quern", stdin, stdout, stderr);
  impl_->editor = editor;
  el_wset(editor, EL_CLIENTDATA, impl_.get());
  el_wset(editor, EL_PROMPT, show_prompt);
  el_wset(editor, EL_EDITOR, L"emacs");
  el_wset(editor, EL_SIGNAL, 0);  // signals are ours (cli/interrupt.h)
  el_wset(editor, EL_HIST, history_w, impl_->history);
  el_wset(editor, EL_GETCFN, read_character);
  el_wset(editor, EL_ADDFN, L"quern-paste", L"Take a paste", take_paste);
  el_wset(editor, EL_BIND, L"\033[200~", L"quern-paste", nullptr);
  el_wset(editor, EL_BIND, L"^R", L"em-inc-search-prev", nullptr);
}

LineEditor::~LineEditor() {
  if (!impl_->history_file.empty()) history_w(impl_->history, &impl_->event, H_SAVE, impl_->history_file.c_str());
  el_end(impl_->editor);
  history_wend(impl_->history);
}

LineEditor::Read LineEditor::read() {
  impl_->interrupted = false;
  el_resize(impl_->editor);  // the window may have changed since the last line
  // libedit would print the prompt first: a Ctrl-D typed in between would be the terminal's, and lost.
  el_wset(impl_->editor, EL_PREP_TERM, 1);
  put(kPasteOn);
  int length = 0;
  const wchar_t* line = el_wgets(impl_->editor, &length);
  put(kPasteOff);
  if (impl_->interrupted) {
    el_reset(impl_->editor);  // the terminal's own modes again
    put("\r\n");
    return {End::interrupted, {}};
  }
  if (!line || length <= 0) return {End::end_of_input, {}};
  std::string text = to_utf8(line, length);
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  if (!text.empty()) {
    std::wstring entry(line, static_cast<size_t>(length));
    while (entry.ends_with(L'\n') || entry.ends_with(L'\r')) entry.pop_back();
    history_w(impl_->history, &impl_->event, H_ENTER, entry.c_str());
  }
  return {End::line, with_line_breaks(text)};
}

}  // namespace quern
