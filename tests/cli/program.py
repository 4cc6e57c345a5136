# SPDX-License-Identifier: Apache-2.0
"""What the tests of the built program share: calls, the tiny model, a copy of it with a chat template."""
import json
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("QUERN_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
PROGRAM = os.environ["QUERN_PROGRAM"]
MODEL = ROOT / "tests/data/models/quant-llama/model.Q4_0.gguf"
TEMPLATE = ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")


def environment(**changes):
    """Ours, without what would change the program's manners."""
    clean = {k: v for k, v in os.environ.items() if k not in ("QUERN_FORCE_ISA", "QUERN_MODELS", "NO_COLOR")}
    return {**clean, **changes}


def run(*arguments, stdin="", timeout=120, **env):
    """The finished process, its output as text; broken UTF-8 shows."""
    return subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, env=environment(**env), capture_output=True,
                          encoding="utf-8", errors="surrogateescape", timeout=timeout)


def start(*arguments, **options):
    defaults = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    return subprocess.Popen([PROGRAM, *map(str, arguments)], **{**defaults, **options})


def endless():
    """Options under which an answer goes on until somebody stops it: one letter wins every time."""
    letter = json.loads(run("tokenize", MODEL, "a", "--json").stdout)["ids"][0]
    return "--temp", "0", "--ctx", "200000", "--logit-bias", f"{letter}=100"


def with_template(path, template=TEMPLATE):
    """A copy of the model with a chat template. The new entry goes before all others and is a multiple of 64 bytes long, so
    that nothing behind it changes its alignment."""
    data = MODEL.read_bytes()
    magic, version, n_tensors, n_entries = struct.unpack("<4sIQQ", data[:24])
    assert magic == b"GGUF" and b"tokenizer.chat_template" not in data
    key, text = b"tokenizer.chat_template", template.encode()
    text += b"{#" + b" " * ((-(8 + len(key) + 4 + 8 + len(text) + 4)) % 64) + b"#}"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text
    path.write_bytes(struct.pack("<4sIQQ", magic, version, n_tensors, n_entries + 1) + entry + data[24:])
    return path


class ProgramTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="quern_cli_")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def good(self, *arguments, **options):
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def json(self, *arguments, **options):
        return json.loads(self.good(*arguments, "--json", **options).stdout)

    def refused(self, *arguments, code=1, **options):
        """Ends with that code and one line; returns it."""
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("quern: "), done.stderr)
        self.assertLess(len(done.stderr), 500)
        return done.stderr

    def logits(self, *options, ids=range(5, 25)):
        """(rows, columns, bytes of the numbers)"""
        tokens, out = self.folder / "ids.json", self.folder / "out.npy"
        tokens.write_text(json.dumps(list(ids)))
        self.good("logits", MODEL, "--tokens", tokens, "--out", out, *options)
        return read_npy(out)


def read_npy(path):
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    length = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + length].decode(), {"__builtins__": {}}, {})
    assert header["descr"] == "<f4" and header["fortran_order"] is False, header
    rows, columns = header["shape"]
    assert (10 + length) % 64 == 0 and len(data) == 10 + length + rows * columns * 4
    return rows, columns, data[10 + length:]
