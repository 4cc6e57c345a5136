# SPDX-License-Identifier: Apache-2.0
"""What each command answers, on a tiny model of random weights."""
import hashlib
import json
import math
import shutil
import struct
import subprocess
import unittest

from program import MODEL, ROOT, ProgramTest, read_npy, start, with_template


class Tokenize(ProgramTest):
    def test_ids_turn_into_the_text_again(self):
        text = "Hello, w\u00f6rld \u6f22\U0001f600\n"
        ids = self.json("tokenize", MODEL, text)["ids"]
        lines = self.good("tokenize", MODEL, "--jsonl", stdin=json.dumps({"ids": ids}) + "\n").stdout.splitlines()
        answer = json.loads(lines[0])
        self.assertEqual(answer["text"], text)
        self.assertEqual("".join(answer["pieces"]) + answer["flush"], text)
        self.assertEqual(len(answer["pieces"]), len(ids))

    def test_standard_input_counts_byte_for_byte(self):
        self.assertEqual(self.json("tokenize", MODEL, stdin="a\n")["ids"], self.json("tokenize", MODEL, "a\n")["ids"])

    def test_a_line_is_answered_before_the_next_is_sent(self):
        p = start("tokenize", MODEL, "--jsonl", stdin=subprocess.PIPE)
        self.addCleanup(p.communicate)
        for text in ("one", "two"):
            p.stdin.write((json.dumps({"text": text}) + "\n").encode())
            p.stdin.flush()
            self.assertIn("ids", json.loads(p.stdout.readline()))

    def test_a_bad_line_does_not_end_the_rest(self):
        done = self.good("tokenize", MODEL, "--jsonl", stdin='nonsense\n{"ids":[99999999]}\n{"ids":[-1]}\n{"text":5}\n{"text":"x"}\n')
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(rows), 5)
        self.assertTrue(all("error" in row for row in rows[:4]), rows)
        self.assertIn("ids", rows[4])


class Template(ProgramTest):
    def test_renders_lines_and_reports_what_a_template_raises(self):
        path = self.folder / "t.jinja"
        path.write_text("{{ bos_token }}{% if not messages %}{{ raise_exception('no messages here') }}{% endif %}"
                        "{{ messages[0].content }}{{ mood }}{{ strftime_now('%Y') }}")
        rows = [{"messages": [{"role": "user", "content": "hi"}], "kwargs": {"mood": "!"}, "bos_token": "<s>", "now": "2026-01-15T10:30:00"},
                {"messages": []}, {"messages": 5}, {"template": "{{ a + 1 }}", "context": {"a": 2}}]
        done = self.good("template", path, "--jsonl", stdin="".join(json.dumps(r) + "\n" for r in rows))
        out = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(out[0], {"text": "<s>hi!2026"})
        self.assertEqual(out[1], {"error": "no messages here"})
        self.assertIn("error", out[2])
        self.assertEqual(out[3], {"text": "3"})

    def test_shows_and_applies_a_models_template(self):
        model = with_template(self.folder / "m.gguf")
        self.assertIn("{% for m in messages %}", self.good("template", model).stdout)
        self.assertEqual(self.good("template", model, "--message", "Hi").stdout, "user: Hi\nassistant:")
        self.refused("template", MODEL)
        self.refused("template", "-", code=2)


class Logits(ProgramTest):
    def test_have_a_row_for_every_token_and_do_not_depend_on_the_pieces(self):
        rows, columns, whole = self.logits()
        self.assertEqual(rows, 20)
        self.assertEqual(self.logits("--batch", 1), (rows, columns, whole))
        self.assertEqual(self.logits("--batch", 7, "--threads", 2), (rows, columns, whole))

    def test_go_to_standard_output_too(self):
        rows, columns, whole = self.logits()
        out, tokens = self.folder / "redirected.npy", self.folder / "ids.json"
        with open(out, "wb") as file:
            p = start("logits", MODEL, "--tokens", tokens, "--out", "/dev/stdout", stdout=file)
            self.assertEqual((p.communicate()[1], p.returncode), (b"", 0))
        self.assertEqual(read_npy(out), (rows, columns, whole))
        p = start("logits", MODEL, "--tokens", tokens, "--out", "/dev/stdout")
        self.assertEqual((p.communicate()[0], p.returncode), (out.read_bytes(), 0))
        self.assertEqual(sorted(f.name for f in self.folder.iterdir()), ["ids.json", "out.npy", "redirected.npy"])

    def test_of_a_text(self):
        out = self.folder / "p.npy"
        self.good("logits", MODEL, "--prompt", "Hello", "--raw", "--out", out)
        self.assertGreaterEqual(read_npy(out)[0], 1)

    def test_wrong_ids_leave_no_file(self):
        tokens, out = self.folder / "ids.json", self.folder / "out.npy"
        for text in ("[]", "[1,-1]", "[1,99999999]", "[1.5]", "{}", "["):
            tokens.write_text(text)
            self.refused("logits", MODEL, "--tokens", tokens, "--out", out)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["ids.json"])
        tokens.write_text("[1,2]")
        self.assertIn("/no/such", self.refused("logits", MODEL, "--tokens", tokens, "--out", "/no/such/out.npy"))
        self.refused("logits", MODEL, "--out", out, code=2)
        self.refused("logits", MODEL, "--tokens", tokens, code=2)


class Perplexity(ProgramTest):
    def setUp(self):
        super().setUp()
        self.text = self.folder / "text.txt"
        self.text.write_text("The quick brown fox jumps over the lazy dog. " * 12)

    def test_counts_the_second_halves_of_whole_windows(self):
        o = self.json("perplexity", MODEL, self.text, "--ctx", 64)
        self.assertEqual(o["windows"], o["tokens"] // 64)
        self.assertEqual(o["predicted"], o["windows"] * (64 - 1 - 32))
        whole = self.json("perplexity", MODEL, self.text, "--ctx", 0)
        self.assertEqual((whole["windows"], whole["predicted"]), (1, whole["tokens"] - 1))

    def test_equals_what_the_logits_say(self):
        ids = self.json("tokenize", MODEL, "--add-special", stdin=self.text.read_text())["ids"]
        whole = self.json("perplexity", MODEL, self.text, "--ctx", 0)
        self.assertEqual(whole["tokens"], len(ids))
        rows, columns, data = self.logits(ids=ids)
        nll = 0.0
        for i in range(rows - 1):
            row = struct.unpack_from(f"<{columns}f", data, i * columns * 4)
            top = max(row)
            nll += top + math.log(sum(math.exp(x - top) for x in row)) - row[ids[i + 1]]
        self.assertAlmostEqual(whole["nll"], nll / (rows - 1), places=6)
        self.assertAlmostEqual(whole["perplexity"], math.exp(nll / (rows - 1)), delta=1e-4 * whole["perplexity"])

    def test_a_model_does_not_diverge_from_itself(self):
        saved = self.folder / "saved.npy"
        self.json("perplexity", MODEL, self.text, "--ctx", 64, "--save", saved)
        o = self.json("perplexity", MODEL, self.text, "--ctx", 64, "--reference", saved)
        self.assertLess(abs(o["kl_mean"]), 1e-9)
        self.assertLess(abs(o["kl_p99"]), 1e-9)
        self.assertEqual(o["same_top"], 1)
        self.refused("perplexity", MODEL, self.text, "--ctx", 32, "--reference", saved)

    def test_too_short_a_text_is_refused(self):
        self.text.write_text("hi")
        self.assertIn("expected at least 512", self.refused("perplexity", MODEL, self.text))
        self.refused("perplexity", MODEL, self.text, "--ctx", 2, code=2)
        self.assertIn("/no/such.txt", self.refused("perplexity", MODEL, "/no/such.txt"))


class Inspect(ProgramTest):
    def test_tells_what_is_in_a_file(self):
        o = self.json("inspect", MODEL, "--sha256", "--metadata", "--tensors")
        self.assertEqual((o["format"], o["architecture"], o["supported"], o["chat_template"]), ("gguf", "llama", True, False))
        self.assertEqual(o["file_bytes"], MODEL.stat().st_size)
        self.assertEqual(o["files"][0]["sha256"], hashlib.sha256(MODEL.read_bytes()).hexdigest())
        self.assertEqual(o["metadata"]["general.architecture"], "llama")
        self.assertEqual(sum(o["types"].values()), sum(shape_size(t["shape"]) for t in o["tensors"]))
        self.assertEqual(o["n_layer"], o["metadata"]["llama.block_count"])
        self.assertTrue(all(m["bytes"] > 0 for m in o["memory"]))
        self.assertNotIn("predicted", o)

    def test_hashes_the_weights_that_are_read(self):
        folder = self.folder / "folder"
        shutil.copytree(ROOT / "tests/data/models/qwen3-tied/hf", folder)
        (folder / "consolidated.safetensors").write_bytes(b"which nobody reads")
        o = self.json("inspect", folder, "--sha256")
        self.assertEqual([file["path"] for file in o["files"]], [str(folder / "model.safetensors")])
        self.assertEqual(sum(file["bytes"] for file in o["files"]), o["file_bytes"])

    def test_reads_as_text_too(self):
        self.assertIn("architecture: llama", self.good("inspect", MODEL).stdout)

    def test_an_unknown_architecture_is_described_all_the_same(self):
        data = bytearray(MODEL.read_bytes())
        at = data.index(b"general.architecture")
        at = data.index(b"llama", at)
        data[at:at + 5] = b"zlama"
        path = self.folder / "other.gguf"
        path.write_bytes(data)
        o = self.json("inspect", path)
        self.assertEqual((o["architecture"], o["supported"]), ("zlama", False))
        self.assertIn("zlama", o["reason"])
        self.assertIn("zlama", self.refused("run", path, "x", "--raw"))


def shape_size(shape):
    out = 1
    for n in shape:
        out *= n
    return out


class Bench(ProgramTest):
    def test_every_test_has_its_line(self):
        done = self.good("bench", MODEL, "--tests", "pp40,tg4@70,b3x4,ttft,load", "--repeat", 2, "--limits", "--json", "--threads", 2)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([r["test"] for r in rows], ["limits", "pp40", "tg4@70", "b3x4", "ttft", "load"])
        self.assertTrue(rows[0]["read_gbps"] > 0 and rows[0]["int_tops"] > 0)
        for r in rows[1:]:
            spread = r["ms" if r["test"] in ("ttft", "load") else "tps"]
            self.assertTrue(0 < spread["min"] <= spread["median"] <= spread["max"])
            self.assertEqual((r["n"], r["threads"], r["kv"]), (2, 2, "bf16"))
            self.assertGreater(r["peak_bytes"], 1 << 20)
        self.assertIn("share_of_int_peak", rows[1])
        self.assertIn("share_of_bandwidth", rows[2])

    def test_a_level_that_is_asked_for_is_the_one_in_use(self):
        usable = self.good("--version").stdout.split("runs ")[1].strip(" )\n").split()
        for level in usable:
            lines = self.good("bench", MODEL, "--tests", "tg1", "--repeat", 1, "--limits", "--isa", level, "--json").stdout
            self.assertEqual([json.loads(line)["isa"] for line in lines.splitlines()], [level, level])

    def test_unknown_tests_are_wrong_usage(self):
        self.refused("bench", MODEL, "--tests", "pp512,xx3", code=2)
        self.refused("bench", MODEL, "--tests", "pp512", "--ctx", 100)


class List(ProgramTest):
    def test_a_listed_name_is_a_model(self):
        folder = self.folder / "models"
        folder.mkdir()
        (folder / "tiny.gguf").symlink_to(MODEL)
        env = dict(QUERN_MODELS=str(folder), XDG_CACHE_HOME=str(self.folder))
        listed = self.json("list", **env)["models"]
        self.assertEqual([m["name"] for m in listed], ["tiny"])
        self.assertIn("tiny", self.good("list", **env).stdout)
        self.assertTrue(self.json("tokenize", "tiny", "x", **env)["ids"])
        self.assertIn("nearest name: tiny", self.refused("tokenize", "tniy", "x", **env))


class Manuals(ProgramTest):
    def commands(self):
        lines = self.good("--help").stdout.split("Commands\n")[1].split("\n\n")[0].splitlines()
        return [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]

    def test_every_command_has_help_and_a_page(self):
        self.assertGreaterEqual(len(self.commands()), 8)
        for c in self.commands():
            self.assertGreater(len(self.good(c, "--help").stdout), 200)
            self.assertTrue(self.good("man", c).stdout.startswith(f".TH QUERN\\-{c.upper()} 1"))
        self.refused("man", "nosuch", code=2)

    def test_bash_completes_commands_options_and_choices(self):
        script = self.folder / "quern.bash"
        script.write_text(self.good("completion", "bash").stdout)
        def complete(*words):
            call = f'source {script}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _quern; echo "${{COMPREPLY[@]}}"'
            return subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True).stdout.split()
        self.assertIn("tokenize", complete("quern", "to"))
        self.assertEqual(complete("quern", "run", "--max"), ["--max-tokens"])
        self.assertEqual(complete("quern", "run", "--kv", "b"), ["bf16"])
        self.refused("completion", "tcsh", code=2)


if __name__ == "__main__":
    unittest.main()
