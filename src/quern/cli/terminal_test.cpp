// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "quern/cli/input.h"
#include "quern/cli/jsonl.h"
#include "quern/cli/nearest.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"

namespace quern {
namespace {

TEST(Terminal, one_line_shows_control_characters_and_repairs_text) {
  EXPECT_EQ(one_line("a\nb\tc\x1b[31m\x7f"), "a\\nb\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(one_line("caf\xc3\xa9 \xff"), "caf\xc3\xa9 \xef\xbf\xbd");
  EXPECT_EQ(one_line("\xc2\x9b"), "\\x9b");  // a control character of Latin-1
  EXPECT_EQ(one_line(std::string(1000, 'x'), 10), "xxxxxxxxxx...");
  EXPECT_EQ(one_line("aaa\xc3\xa9", 4), "aaa...");
  EXPECT_LT(one_line(std::string(100000, '\n')).size(), 490u);
}

TEST(Terminal, width_counts_columns) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("漢字"), 4);
  EXPECT_EQ(display_width("e\xcc\x81"), 1);  // a combining accent
}

TEST(Nearest, counts_edits_and_swaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("run", "rnu"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("--tempp", "--temp"), 1);
  const std::string_view names[] = {"--threads", "--temp", "--top-p"};
  EXPECT_EQ(nearest_name("--tmep", names), "--temp");
  EXPECT_EQ(nearest_name("--thr", names), "--threads");
  EXPECT_EQ(nearest_name("x", {}), "");
}

TEST(Nearest, near_is_what_could_have_been_meant) {
  const std::string_view names[] = {"run", "tokenize", "perplexity"};
  EXPECT_EQ(near_name("rnu", names), "run");
  EXPECT_EQ(near_name("tok", names), "tokenize");                // its beginning
  EXPECT_EQ(near_name("tokenise!!", names), "tokenize");         // three edits
  EXPECT_EQ(near_name("perplexity-test", names), "perplexity");  // five, within half of it
  for (const char* far : {"abc", "x", "", "frobnicate"}) EXPECT_EQ(near_name(far, names), "") << far;
  EXPECT_EQ(near_name("run", {}), "");
}

TEST(Progress, tells_share_rate_and_time_left) {
  EXPECT_EQ(progress_text("reading", Unit::tokens, 500, 2000, 2.5, 200),
            "reading: 25 %, 500 of 2,000 tokens, 200 tokens/s, 8 s left");
  EXPECT_EQ(progress_text("answering", Unit::tokens, 500, 0, 2.5, 200), "answering: 500 tokens, 200 tokens/s");
  EXPECT_EQ(progress_text("loading", Unit::bytes, 1'500'000'000, 3'000'000'000, 1, 200),
            "loading: 50 %, 1.5 GB of 3.0 GB, 1.5 GB/s, 1 s left");
  EXPECT_EQ(progress_text("pp512", Unit::steps, 0, 6, 0, 200), "pp512: 0 %, 0 of 6");
  EXPECT_EQ(progress_text("reading", Unit::tokens, 2000, 2000, 10, 200),
            "reading: 100 %, 2,000 of 2,000 tokens, 200 tokens/s");
  EXPECT_EQ(progress_text("reading", Unit::tokens, 1, 2, 1, 10).size(), 10u);
}

TEST(Progress, sizes_and_times_are_short) {
  EXPECT_EQ(bytes_text(999), "999 bytes");
  EXPECT_EQ(bytes_text(98'362'432), "98.4 MB");
  EXPECT_EQ(bytes_text(999'700), "1.0 MB");
  EXPECT_EQ(bytes_text(123'456'789), "123 MB");
  EXPECT_EQ(duration_text(0.2), "1 s");
  EXPECT_EQ(duration_text(125), "2:05 min");
  EXPECT_EQ(duration_text(3720), "1:02 h");
}

/// Both ends of a pipe.
struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    read = ends[0], write = ends[1];
  }
  ~Pipe() { close_read(), close_write(); }
  void close_read() {
    if (read >= 0) close(std::exchange(read, -1));
  }
  void close_write() {
    if (write >= 0) close(std::exchange(write, -1));
  }
  void put(std::string_view text) const {
    EXPECT_EQ(::write(write, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  std::string get(size_t n) const {
    std::string out(n, 0);
    const ssize_t got = ::read(read, out.data(), n);
    return out.substr(0, got > 0 ? static_cast<size_t>(got) : 0);
  }
};

TEST(Output, what_is_flushed_has_left) {
  Pipe pipe;
  Output out(pipe.write);
  out.write("abc");
  out.flush();
  EXPECT_EQ(pipe.get(10), "abc");
  EXPECT_EQ(out.finish(7), 7);
}

TEST(Output, a_reader_that_goes_away_is_quiet) {
  signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  Output out(pipe.write);
  pipe.close_read();
  out.line("abc");
  EXPECT_FALSE(out.closed());
  out.flush();
  EXPECT_TRUE(out.closed());
  out.line("more");
  testing::internal::CaptureStderr();
  EXPECT_EQ(out.finish(), 141);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Output, a_full_disk_is_an_error) {
  const int full = open("/dev/full", O_WRONLY);
  if (full < 0) GTEST_SKIP() << "no /dev/full";
  Output out(full);
  out.line("abc");
  testing::internal::CaptureStderr();
  EXPECT_EQ(out.finish(), 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("standard output"), std::string::npos);
  close(full);
}

TEST(Input, lines_come_as_they_arrive) {
  Pipe pipe;
  LineReader lines(pipe.read);
  pipe.put("one\ntwo\r\n\nth");
  EXPECT_EQ(lines.next().value(), "one");
  EXPECT_EQ(lines.next().value(), "two");
  EXPECT_EQ(lines.next().value(), "");
  pipe.put("ree");
  pipe.close_write();
  EXPECT_EQ(lines.next().value(), "three");
  EXPECT_EQ(lines.next().value(), std::nullopt);
}

TEST(Input, too_much_is_refused) {
  Pipe pipe;
  pipe.put(std::string(100, 'x'));
  pipe.close_write();
  LineReader lines(pipe.read, 10);
  EXPECT_FALSE(lines.next());
  Pipe other;
  other.put("12345");
  other.close_write();
  EXPECT_FALSE(read_all(other.read, 4));
}

TEST(JsonLines, every_line_gets_its_answer) {
  Pipe in, answers;
  in.put("{\"n\":1}\n\n{bad\n[1]\n{\"n\":\"x\"}\n{\"n\":3}");
  in.close_write();
  Output out(answers.write);
  const int code = answer_lines(in.read, out, [](const Json& line) -> Result<std::string> {
    const Json* n = line.find("n");
    if (!n || !n->is_integer()) return make_error(ErrorCode::invalid_argument, "n: \"no\" number");
    return fmt::format("{{\"m\":{}}}", n->integer() + 1);
  });
  EXPECT_EQ(code, 0);
  std::vector<std::string> lines;
  std::string text = answers.get(4096);
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
    lines.push_back(text.substr(0, end));
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "{\"m\":2}");
  for (int i : {1, 2, 3}) {
    const auto json = Json::parse(lines[i]);
    ASSERT_TRUE(json) << lines[i];
    EXPECT_TRUE(json->find("error")) << lines[i];
  }
  EXPECT_EQ(*Json::parse(lines[3])->find("error"), Json("n: \"no\" number"));
  EXPECT_EQ(lines[4], "{\"m\":4}");
}

}  // namespace
}  // namespace quern
