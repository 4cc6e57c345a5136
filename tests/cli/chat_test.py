# SPDX-License-Identifier: Apache-2.0
"""A chat at a terminal of its own (pty), on a tiny model of random weights."""
import json
import os
import pty
import re
import select
import signal
import time
import unittest

from program import MODEL, PROGRAM, ProgramTest, endless, environment, with_template

PROMPT = "> "


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, *arguments, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, *map(str, arguments)], environment(TERM="xterm", LC_ALL="C.UTF-8", **env))
        self.seen = ""

    def expect(self, pattern, timeout=60):
        """Reads until the pattern has come; returns what came before it and drops it."""
        end = time.monotonic() + timeout
        while not (m := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} within {timeout} s, but {self.seen[-800:]!r}")
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                piece = b""
            if not piece:
                raise AssertionError(f"ended without {pattern!r}: {self.seen[-800:]!r}")
            self.seen += piece.decode(errors="replace")
        before, self.seen = self.seen[:m.start()], self.seen[m.end():]
        return before

    def send(self, text):
        os.write(self.fd, text.encode())

    def line(self, text):
        self.send(text + "\r")

    def code(self, timeout=30):
        """The exit code."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    pass
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                os.close(self.fd)
                self.pid = None
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running: {self.seen[-800:]!r}")

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


class Progress(ProgramTest):
    def test_an_answer_for_a_program_shows_how_far_it_is(self):
        for options, pattern in ((("--max-tokens", "100000"), r"answering: \d+ %, [\d,]+ of (?:100,000|99,99\d) tokens, [\d,.]+ tokens/s, .* left"),
                                 ((), r"answering: [\d,]+ tokens, [\d,.]+ tokens/s")):
            t = Terminal("run", MODEL, "x", "--raw", "--json", *endless(), *options)
            self.addCleanup(t.kill)
            t.expect(pattern)
            t.send("\x03")
            t.expect(r'"finish_reason":"cancelled"')
            self.assertEqual(t.code(), 130)
        t = Terminal("run", MODEL, "x", "--raw", "--json", "--quiet", *endless())
        self.addCleanup(t.kill)
        time.sleep(1.5)
        t.send("\x03")
        self.assertEqual(t.code(), 130)
        self.assertNotIn("answering", t.seen)


class Chat(ProgramTest):
    def begin(self, *options, **env):
        model = with_template(self.folder / "m.gguf")
        t = Terminal("run", model, "--temp", "0", *options, XDG_STATE_HOME=str(self.folder / "state"), **env)
        self.addCleanup(t.kill)
        t.expect(re.escape(PROMPT))
        return t

    def test_answers_remembers_and_saves(self):
        t = self.begin("--max-tokens", "4", "--system", "Be.")
        t.line("first")
        t.expect(r"quern: 4 tokens, [\d.]+ tokens/s; prompt \d+ tokens, ")
        t.expect(re.escape(PROMPT))
        t.line("second")
        t.expect(r"and \d+ known")  # the first turn was not read again
        t.expect(re.escape(PROMPT))
        saved = self.folder / "chat.json"
        t.line(f"/save {saved}")
        t.expect("saved 5 messages")
        t.line("/quit")
        self.assertEqual(t.code(), 0)
        messages = json.loads(saved.read_text())["messages"]
        self.assertEqual([m["role"] for m in messages], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual([m["content"] for m in messages if m["role"] == "user"], ["first", "second"])
        self.assertIn("second", (self.folder / "state/quern/history").read_text())

    def test_loads_clears_and_sets(self):
        saved = self.folder / "chat.json"
        saved.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
        t = self.begin("--max-tokens", "3")
        for line, answer in ((f"/load {saved}", "2 messages from"), ("/load /no/such.json", "/no/such.json"), ("/hlep", "did you mean /help"), ("/help", "/system TEXT"),
                             ("/set top-p 7", "/set top-p: expected a number from 0 to 1, found '7'"), ("/set temp", "/set temp: expected a number"), ("/set seed ", "found nothing"),
                             ("/frobnicate", "/help lists all"), ("/set speed 3", "expected a setting"), ("/save", "expected FILE")):
            t.line(line)
            t.expect(re.escape(answer))
            t.expect(re.escape(PROMPT))
        t.line("/set max-tokens 2")
        t.expect(re.escape(PROMPT))
        t.line("/clear")
        t.expect(re.escape(PROMPT))
        t.line("hi")
        t.expect("quern: 2 tokens")
        t.expect(re.escape(PROMPT))
        t.send("\x04")  # Ctrl-D
        self.assertEqual(t.code(), 0)

    def test_a_tilde_is_the_home_folder(self):
        t = self.begin("--max-tokens", "2", HOME=str(self.folder))
        t.line("hi")
        t.expect("quern: 2 tokens")
        t.expect(re.escape(PROMPT))
        for line, answer in (("/save ~/chat.json", "saved 2 messages to "), ("/load ~/chat.json", "2 messages from ")):
            t.line(line)
            t.expect(re.escape(f"{answer}{self.folder}/chat.json"))
            t.expect(re.escape(PROMPT))
        t.line("/quit")
        self.assertEqual(t.code(), 0)
        self.assertEqual(len(json.loads((self.folder / "chat.json").read_text())["messages"]), 2)

    def test_an_interrupt_stops_the_answer_not_the_chat(self):
        t = self.begin(*endless())
        t.line("count")
        t.expect("aaaaaaaa")
        t.send("\x03")
        t.expect(r"quern: \d+ tokens", timeout=30)
        t.expect(re.escape(PROMPT))
        t.line("/set max-tokens 2")
        t.expect(re.escape(PROMPT))
        t.line("again")
        t.expect("quern: 2 tokens")
        t.expect(re.escape(PROMPT))
        t.send("half a line\x03")  # clears the line
        t.expect("once more")
        t.expect(re.escape(PROMPT))
        t.send("\x03")
        self.assertEqual(t.code(), 0)

    def test_a_paste_of_several_lines_is_one_message(self):
        t = self.begin("--max-tokens", "2")
        t.send("\x1b[200~one\rtwo\nthr\u00e9e\x1b[201~")
        t.expect("thr\u00e9e")
        t.send(" four\r")
        t.expect("quern: 2 tokens")
        t.expect(re.escape(PROMPT))
        t.line("a\\")
        t.expect(r"\.\.\. ")
        t.line("b")
        t.expect("quern: 2 tokens")
        t.expect(re.escape(PROMPT))
        saved = self.folder / "chat.json"
        t.line(f"/save {saved}")
        t.expect("saved 4 messages")
        t.line("/quit")
        self.assertEqual(t.code(), 0)
        messages = json.loads(saved.read_text())["messages"]
        self.assertEqual(messages[0]["content"], "one\ntwo\nthr\u00e9e four")
        self.assertEqual(messages[2]["content"], "a\nb")

    def test_a_full_context_gives_advice(self):
        t = self.begin(*endless(), "--ctx", "64")
        t.line("word")
        t.expect("is full: /clear begins anew")
        t.expect(re.escape(PROMPT))
        t.line("more")
        t.expect("the context holds 64")
        t.expect("is full: /clear begins anew")
        t.expect(re.escape(PROMPT))
        t.line("/quit")
        self.assertEqual(t.code(), 0)

    def test_a_termination_ends_the_chat(self):
        t = self.begin()
        os.kill(t.pid, signal.SIGTERM)
        self.assertEqual(t.code(), 130)


if __name__ == "__main__":
    unittest.main()
