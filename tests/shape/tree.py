# SPDX-License-Identifier: Apache-2.0
"""What the tests of the tree's shape share. They are given the source folder and facts of the build in the environment."""
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(os.environ.get("QUERN_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
SOURCES = ROOT / "src/quern"


def files(folder, *suffixes):
    """Every file below a folder with one of the suffixes, in order; no hidden ones and nothing built."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix in suffixes and parts[0] != "build" and not any(p.startswith(".") for p in parts):
            found.append(path)
    return found


def includes(text):
    """Pairs of line number and what stands between the quotes or brackets."""
    for number, line in enumerate(text.splitlines(), 1):
        if m := re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line):
            yield number, m.group(2)


def run(*command, **environment):
    """The finished process, its output as text."""
    return subprocess.run([str(c) for c in command], env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
