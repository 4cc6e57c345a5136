# SPDX-License-Identifier: Apache-2.0
"""Includes run one way: down the list in src/quern/layers.txt. Other people's headers stay behind our types."""
import pathlib
import tempfile
import unittest

from tree import SOURCES, files, includes

# Headers of other projects, by how they begin, and the folders that wrap them.
WRAPPED = {
    "simdjson": {"base"},
    "histedit": {"cli"},
    "editline": {"cli"},
    "utf8proc": {"tokenizer", "chat", "cli"},
    "immintrin": {"kernels", "parallel"},  # parallel: the pause of a spin loop
    "arm_neon": {"kernels"},
}
# What a kernel may include besides kernels/: headers without inline functions that a linker could merge over instruction sets.
KERNEL_HEADERS = {"immintrin.h", "arm_neon.h", "cstddef", "cstdint", "cstring", "cmath", "climits", "limits", "cfloat"}


def read_layers(text):
    levels = {}
    for line in text.splitlines():
        line = line.split("#")[0].split()
        for name in line[1:]:
            levels[name] = int(line[0])
    return levels


def violations(root):
    levels = read_layers((root / "layers.txt").read_text())
    found = []
    for path in files(root, ".h", ".cpp"):
        where = path.relative_to(root)
        folder = where.parts[0]
        if len(where.parts) == 1:
            found.append(f"{where}: a source outside any folder")
            continue
        if folder not in levels:
            found.append(f"{where}: folder {folder} is not in layers.txt")
            continue
        test = path.name.endswith(("_test.cpp", "_bench.cpp"))
        for line, header in includes(path.read_text()):
            if header.startswith("quern/"):
                other = header.split("/")[1]
                if other not in levels:
                    found.append(f"{where}:{line}: {header}: folder {other} is not in layers.txt")
                elif other != folder and levels[other] >= levels[folder]:
                    found.append(f"{where}:{line}: {folder} (level {levels[folder]}) includes {header} (level {levels[other]})")
                elif path.name.endswith(".kernel.cpp") and other != "kernels":
                    found.append(f"{where}:{line}: a kernel includes {header}")
            elif path.name.endswith(".kernel.cpp") and header not in KERNEL_HEADERS:
                found.append(f"{where}:{line}: a kernel includes <{header}>")
            elif not test:
                for prefix, allowed in WRAPPED.items():
                    if header.startswith(prefix) and folder not in allowed:
                        found.append(f"{where}:{line}: <{header}> outside {', '.join(sorted(allowed))}")
    return found


class Layers(unittest.TestCase):
    def test_includes_run_down_the_list(self):
        self.assertEqual(violations(SOURCES), [])

    def test_every_folder_is_listed(self):
        levels = read_layers((SOURCES / "layers.txt").read_text())
        self.assertEqual([d.name for d in SOURCES.iterdir() if d.is_dir() and d.name not in levels], [])

    def test_a_wrong_include_is_found(self):
        cases = {
            '#include "quern/engine/a.h"': "low/x.cpp:1: low (level 1) includes quern/engine/a.h (level 8)",
            '#include "quern/beside/a.h"': "low/x.cpp:1: low (level 1) includes quern/beside/a.h (level 1)",
            '#include "quern/nowhere/a.h"': "low/x.cpp:1: quern/nowhere/a.h: folder nowhere is not in layers.txt",
            "#include <simdjson.h>": "low/x.cpp:1: <simdjson.h> outside base",
            '#include "quern/base/a.h"': None,
            '#include "quern/low/a.h"': None,
        }
        for line, expected in cases.items():
            with tempfile.TemporaryDirectory() as d, self.subTest(line):
                root = pathlib.Path(d)
                (root / "layers.txt").write_text("8 engine\n1 low beside  # comment\n0 base\n")
                (root / "low").mkdir()
                (root / "low/x.cpp").write_text(line + "\n")
                self.assertEqual(violations(root), [expected] if expected else [])

    def test_a_kernel_that_includes_a_library_is_found(self):
        with tempfile.TemporaryDirectory() as d:
            root = pathlib.Path(d)
            (root / "layers.txt").write_text("2 kernels\n0 base\n")
            (root / "kernels").mkdir()
            (root / "kernels/x.kernel.cpp").write_text("#include <vector>\n#include <cstdint>\n#include \"quern/base/a.h\"\n")
            self.assertEqual(violations(root), ["kernels/x.kernel.cpp:1: a kernel includes <vector>",
                                                "kernels/x.kernel.cpp:3: a kernel includes quern/base/a.h"])


if __name__ == "__main__":
    unittest.main()
