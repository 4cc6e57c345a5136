# SPDX-License-Identifier: Apache-2.0
"""Objects compiled for one instruction set export their table and nothing else. A weak symbol (an inline function, say) could be the copy that the
linker keeps for the whole program, and crash it on a machine without that instruction set."""
import os
import pathlib
import re
import unittest

from tree import run


def exported(listing):
    """Type and name of each symbol in nm's listing that other objects can see."""
    out = []
    for line in listing.splitlines():
        if m := re.match(r"[0-9a-f ]{16} (\S) (.+)", line):
            kind, name = m.groups()
            if kind != "U" and (kind.isupper() or kind in "uvw"):
                out.append((kind, name))
    return out


def problem(level, symbols):
    weak = [name for kind, name in symbols if kind in "WVuvw"]
    if weak:
        return f"weak symbols {weak}"
    inside = [name for kind, name in symbols if kind in "DRB" and name.startswith(f"quern::{level}::")]
    if len(inside) != 1 or len(symbols) != 1:
        return f"expected one table in quern::{level}, found {symbols}"
    return None


class IsaObjects(unittest.TestCase):
    def test_each_exports_one_table(self):
        objects = pathlib.Path(os.environ["QUERN_ISA_OBJECTS"]).read_text().split()
        self.assertGreater(len(objects), 0)
        for path in objects:
            level = re.search(r"quern_[a-z]+_(\w+)\.dir", path).group(1)
            with self.subTest(path):
                nm = run("nm", "-C", path)
                self.assertEqual(nm.returncode, 0, nm.stderr)
                self.assertIsNone(problem(level, exported(nm.stdout)))

    def test_a_weak_symbol_is_found(self):
        listing = ("0000000000000000 D quern::avx2::some_kernels\n0000000000000000 W std::vector<int>::size() const\n"
                   "                 U memcpy\n0000000000000010 t quern::avx2::(anonymous namespace)::f()\n")
        self.assertEqual(len(exported(listing)), 2)
        self.assertIn("weak", problem("avx2", exported(listing)))
        self.assertIn("expected one table", problem("avx512", exported(listing)[:1]))
        self.assertIn("expected one table", problem("avx2", []))
        self.assertIsNone(problem("avx2", exported(listing)[:1]))


if __name__ == "__main__":
    unittest.main()
