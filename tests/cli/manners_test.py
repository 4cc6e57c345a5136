# SPDX-License-Identifier: Apache-2.0
"""Usage errors, pipes, signals, seeds: how the program behaves, on a tiny model of random weights."""
import json
import os
import signal
import subprocess
import time
import unittest

from program import MODEL, ProgramTest, endless, start, with_template

FIELDS = {"text", "reasoning", "tool_calls", "finish_reason", "ids", "prompt_tokens", "completion_tokens", "prefill_tps", "decode_tps", "seed"}


class Usage(ProgramTest):
    def test_wrong_lines_give_code_2_and_the_right_word(self):
        for words, hint in ((["rnu"], "run"), (["run", MODEL, "--tempp", "1"], "--temp"), (["run", MODEL, "x", "--top-p", "7"], "from 0 to 1"),
                            (["run", MODEL, "x", "--max-tokens", "many"], "from 1 to"), (["run", MODEL, "x", "--kv", "f8"], "bf16"),
                            (["run", MODEL, "x", "--memory-budget", "much"], "8G"), (["run", MODEL, "x", "--logit-bias", "5"], "ID=B"),
                            (["run"], "MODEL"), ([], "--help"), (["run", MODEL, "x", "y"], "one more"), (["run", MODEL, "x", "--stop", ""], "--stop")):
            self.assertIn(hint, self.refused(*words, code=2))

    def test_options_without_effect_are_refused(self):
        for words, option in ((["--raw", "--system", "Be."], "--system"), (["--raw", "--no-think"], "--no-think"), (["--parse-special"], "--parse-special")):
            self.assertIn(f"run: {option}: expected", self.refused("run", MODEL, "x", *words, code=2))
        self.good("run", MODEL, "x", "--raw", "--parse-special", "--max-tokens", 1)

    def test_only_a_near_command_is_suggested(self):
        self.assertIn("did you mean run?", self.refused("rnu", code=2))
        self.assertNotIn("did you mean", self.refused("frobnicate", code=2))
        self.assertIn("did you mean --", self.refused("run", MODEL, "x", "--frobnicate", code=2))

    def test_the_level_of_other_machines_is_told(self):
        self.assertRegex(self.good("--help").stdout, r"neon\s+is\s+for\s+ARM\s+machines\s+only")

    def test_files_that_are_not_there_are_named(self):
        self.assertIn("/no/such.gguf", self.refused("run", "/no/such.gguf", "x"))
        self.assertIn("quern: '': expected", self.refused("run", "", "x"))
        for path in ("/", "/dev/zero", "/etc/hostname", ""):
            self.refused("run", path, "x")

    def test_control_characters_do_not_reach_the_terminal(self):
        line = self.refused("run", "/no/\x1b[31m\n\x07such.gguf", "x")
        self.assertIn("\\x1b[31m\\n\\x07", line)
        self.refused("run", "x" * 100000, "x")

    def test_a_prompt_longer_than_the_context_tells_both_lengths(self):
        self.assertRegex(self.refused("run", MODEL, "word " * 400, "--raw", "--ctx", "128"), r"prompt: \d+ tokens, the context holds 128")

    def test_levels_and_budgets_that_cannot_be_are_failures(self):
        self.refused("bench", MODEL, "--isa", "neon" if os.uname().machine == "x86_64" else "avx2")
        self.refused("run", MODEL, "x", "--raw", "--memory-budget", "4K")
        self.assertIn("QUERN_FORCE_ISA", self.refused("run", MODEL, "x", "--raw", QUERN_FORCE_ISA="none"))

    def test_what_follows_two_dashes_is_a_prompt(self):
        self.assertIn("1 token;", self.good("run", MODEL, "--raw", "--temp", 0, "--max-tokens", 1, "--", "--help").stderr)


class Answers(ProgramTest):
    def ask(self, *options, **keywords):
        return self.json("run", MODEL, "Tell me", "--raw", "--max-tokens", 24, *options, **keywords)

    def test_json_has_all_its_fields(self):
        o = self.ask("--temp", 0)
        self.assertLessEqual(FIELDS, set(o))
        self.assertEqual(o["completion_tokens"], len(o["ids"]))
        self.assertIn(o["finish_reason"], ("stop", "length"))
        self.assertEqual(o["prompt_tokens"], len(self.json("tokenize", MODEL, "Tell me", "--add-special")["ids"]))

    def test_a_seed_repeats_and_another_does_not(self):
        a, b, c = (self.ask("--temp", 1, "--seed", s) for s in (7, 7, 8))
        self.assertEqual((a["ids"], a["seed"]), (b["ids"], 7))
        self.assertNotEqual(a["ids"], c["ids"])
        d = self.ask("--temp", 1)
        self.assertEqual(self.ask("--temp", 1, "--seed", d["seed"])["ids"], d["ids"])

    def test_a_banned_token_does_not_come(self):
        first = self.ask("--temp", 0)["ids"][0]
        self.assertNotIn(first, self.ask("--temp", 0, "--logit-bias", f"{first}=-inf")["ids"])

    def test_a_stop_text_ends_the_answer_before_it(self):
        whole = self.ask("--temp", 0)["text"]
        stop = whole[len(whole) // 2]
        o = self.ask("--temp", 0, "--stop", stop)
        self.assertEqual((o["text"], o["finish_reason"]), (whole[:whole.index(stop)], "stop"))

    def test_standard_input_is_the_prompt(self):
        given = self.ask("--temp", 0)["ids"]
        piped = self.json("run", MODEL, "--raw", "--max-tokens", 24, "--temp", 0, stdin="Tell me\n")["ids"]
        self.assertEqual(piped, given)
        self.refused("run", MODEL, "--raw", code=2)

    def test_streamed_text_is_the_text_of_json(self):
        text = self.ask("--temp", 0)["text"]
        done = self.good("run", MODEL, "Tell me", "--raw", "--max-tokens", 24, "--temp", 0)
        self.assertEqual(done.stdout, text + ("" if text.endswith("\n") else "\n"))
        self.assertIn("tokens/s", done.stderr)
        self.assertEqual(self.good("run", MODEL, "Tell me", "--raw", "--max-tokens", 24, "--temp", 0, "--quiet").stderr, "")

    def test_a_chat_template_shapes_the_prompt(self):
        model = with_template(self.folder / "m.gguf")
        o = self.json("run", model, "Hi", "--system", "Be.", "--max-tokens", 4, "--temp", 0)
        self.assertEqual(o["prompt_tokens"], len(self.json("tokenize", MODEL, "system: Be.\nuser: Hi\nassistant:", "--add-special")["ids"]))

    def test_a_model_without_a_template_goes_by_its_control_tokens_or_needs_raw(self):
        o = self.json("run", MODEL, "Hi", "--max-tokens", 4, "--temp", 0)
        marked = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual(o["prompt_tokens"], len(self.json("tokenize", MODEL, marked, "--add-special", "--parse-special")["ids"]))
        base = self.folder / "base.gguf"
        base.write_bytes(MODEL.read_bytes().replace(b"<|im_start|>", b"<|im_other|>"))
        self.assertIn("--raw", self.refused("run", base, "Hi", "--max-tokens", 4))


class Signals(ProgramTest):
    def begin(self, *options, **keywords):
        p = start("run", MODEL, "1, 2, 3,", "--raw", *endless(), *options, **keywords)
        self.addCleanup(lambda: p.poll() is None and (p.kill(), p.wait()))
        for stream in filter(None, (p.stdout, p.stderr)):
            self.addCleanup(stream.close)
        return p

    def test_an_interrupt_keeps_what_was_written_and_gives_130(self):
        for which in (signal.SIGINT, signal.SIGTERM):
            p = self.begin()
            head = p.stdout.read(10)
            p.send_signal(which)
            _, errors = p.communicate(timeout=20)
            self.assertEqual((len(head), p.returncode), (10, 130), errors)

    def test_json_of_an_interrupted_answer_says_so(self):
        p = self.begin("--json")
        time.sleep(1.5)
        p.send_signal(signal.SIGINT)
        out, errors = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 130, errors)
        if out:  # else it was still loading
            self.assertEqual(json.loads(out)["finish_reason"], "cancelled")

    def test_waiting_for_input_can_be_interrupted(self):
        p = start("tokenize", MODEL, "--jsonl", stdin=subprocess.PIPE)
        self.addCleanup(p.communicate)
        p.stdin.write(b'{"text":"x"}\n')
        p.stdin.flush()
        p.stdout.readline()
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(timeout=20), 130)

    def test_a_reader_that_goes_away_is_no_drama(self):
        p = self.begin()
        p.stdout.read(5)
        p.stdout.close()
        self.assertIn(p.wait(timeout=20), (0, 1, 141))
        self.assertEqual(p.stderr.read(), b"")

    def test_a_full_disk_is_told(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            p = self.begin(stdout=full)
            _, errors = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 1)
        self.assertEqual(len(errors.splitlines()), 1, errors)


if __name__ == "__main__":
    unittest.main()
