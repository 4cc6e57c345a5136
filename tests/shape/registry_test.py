# SPDX-License-Identifier: Apache-2.0
"""A variant is a file: x.SUFFIX.cpp defines the one constant SUFFIX_x of its registry, with a test beside it or one over the whole registry."""
import re
import unittest

from tree import ROOT, SOURCES, files


def registries():
    """(folder, suffix, type) of each quern_registry line."""
    return re.findall(r"^quern_registry\((\w+) (\w+) (\w+) ", (ROOT / "src/quern/CMakeLists.txt").read_text(), re.M)


class Registry(unittest.TestCase):
    def test_there_are_registries(self):
        self.assertLessEqual({("quant", "quant", "QuantType"), ("model", "arch", "Architecture"), ("cli", "command", "Command")},
                             set(registries()))

    def test_each_file_defines_the_constant_of_its_name(self):
        for folder, suffix, kind in registries():
            variants = [p for p in files(SOURCES / folder, ".cpp") if p.name.endswith(f".{suffix}.cpp")]
            self.assertTrue(variants, f"no {suffix} at all")
            for path in variants:
                with self.subTest(path.name):
                    expected = suffix + "_" + path.name.split(".")[0].replace("-", "_")
                    defined = re.findall(rf"^(?:constinit )?const {kind} ({suffix}_\w+)\b\s*[={{]", path.read_text(), re.M)
                    self.assertEqual(defined, [expected])

    def test_nothing_else_names_a_variant(self):
        for folder, suffix, kind in registries():
            if suffix == "quant":  # the plain floats are named by the containers that have only these
                continue
            names = [suffix + "_" + p.name.split(".")[0].replace("-", "_") for p in files(SOURCES / folder, ".cpp")
                     if p.name.endswith(f".{suffix}.cpp")]
            pattern = re.compile(r"\b(" + "|".join(names) + r")\b")
            for path in files(SOURCES, ".h", ".cpp"):
                if not re.search(r"\.\w+\.cpp$|_test\.cpp$|_bench\.cpp$|_fuzz\.cpp$", path.name):
                    with self.subTest(path.name):
                        self.assertIsNone(pattern.search(path.read_text()))


if __name__ == "__main__":
    unittest.main()
