# SPDX-License-Identifier: Apache-2.0
"""A forced instruction set is the one that runs; one that this machine lacks is refused, never replaced."""
import os
import re
import unittest

from tree import run

PROGRAM = os.environ["QUERN_PROGRAM"]
ALL = ("x86-64-v2", "avx2", "avx-vnni", "avx512", "neon")


def version(*arguments, force=""):
    return run(PROGRAM, *arguments, "--version", QUERN_FORCE_ISA=force)


class ForcedIsa(unittest.TestCase):
    def setUp(self):
        self.plain = version()
        self.assertEqual(self.plain.returncode, 0, self.plain.stderr)
        m = re.fullmatch(r"quern \S+ \(instruction set (\S+); attention in (?:f32|bf16); this machine runs ([^)]+)\)\n", self.plain.stdout)
        self.assertIsNotNone(m, self.plain.stdout)
        self.best, self.usable = m.group(1), m.group(2).split()

    def test_the_best_one_runs_by_itself(self):
        self.assertEqual(self.best, self.usable[-1])
        self.assertLessEqual(set(self.usable), set(ALL))

    def test_each_usable_one_can_be_forced(self):
        for level in self.usable:
            for forced in (version(force=level), version("--isa", level)):
                self.assertEqual(forced.returncode, 0, forced.stderr)
                self.assertIn(f"instruction set {level};", forced.stdout)
                if level != "avx512":
                    self.assertIn("; attention in f32;", forced.stdout)

    def test_others_are_refused(self):
        for level in [*(set(ALL) - set(self.usable)), "avx1024"]:
            forced = version(force=level)
            self.assertIn(forced.returncode, (1, 2))
            self.assertEqual(forced.stdout, "")
            self.assertEqual(len(forced.stderr.splitlines()), 1)
            self.assertIn(level, forced.stderr)


if __name__ == "__main__":
    unittest.main()
