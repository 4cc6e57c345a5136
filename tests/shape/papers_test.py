# SPDX-License-Identifier: Apache-2.0
"""What goes with the code: licence lines, a README per folder, links that lead somewhere, one place for the version, scripts that parse."""
import os
import pathlib
import re
import shutil
import tempfile
import unittest

from tree import ROOT, SOURCES, files, run


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    out = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
        out.add(re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-"))
    return out


def broken_links(page):
    text = page.read_text()
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name) if name else page
        if not other.exists() or (anchor and anchor not in anchors(other.read_text())):
            broken.append(target)
    return broken


class Papers(unittest.TestCase):
    def test_every_source_names_its_licence(self):
        for path in [*files(SOURCES, ".h", ".cpp"), *files(ROOT / "tests", ".py"), *files(ROOT / "tools", ".py"),
                     *(p for p in (ROOT / "scripts").iterdir() if p.is_file())]:
            with self.subTest(path.name):
                self.assertIn("SPDX-License-Identifier: Apache-2.0", "\n".join(path.read_text().splitlines()[:2]))

    def test_every_folder_says_what_it_is(self):
        for folder in (d for d in SOURCES.iterdir() if d.is_dir()):
            with self.subTest(folder.name):
                readme = folder / "README.md"
                self.assertTrue(readme.exists(), "no README.md")
                lines = readme.read_text().splitlines()
                self.assertLess(len(lines), 31)
                self.assertRegex(lines[0], r"^# ")

    def test_links_lead_somewhere(self):
        for page in files(ROOT, ".md"):
            with self.subTest(str(page.relative_to(ROOT))):
                self.assertEqual(broken_links(page), [])

    def test_a_broken_link_is_found(self):
        with tempfile.TemporaryDirectory() as d:
            page = pathlib.Path(d, "a.md")
            page.write_text("# One Thing\n[a](#one-thing) [b](#none) [c](none.md) `[d](x)` [e](https://example.org) [f](a.md#one-thing)\n")
            self.assertEqual(broken_links(page), ["#none", "none.md"])

    def test_the_index_has_every_page(self):
        index = (ROOT / "docs/README.md").read_text()
        for page in (ROOT / "docs").glob("*.md"):
            if page.name != "README.md":
                self.assertIn(f"({page.name})", index)

    def test_the_version_stands_in_one_place(self):
        version = re.search(r"^project\(quern VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
        exact = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
        for path in [*files(SOURCES, ".h", ".cpp"), *files(ROOT / "cmake", ".cmake"), *files(ROOT / "docs", ".md"), ROOT / "README.md"]:
            with self.subTest(path.name):
                self.assertIsNone(exact.search(path.read_text()))
        self.assertIn(version, (ROOT / "CHANGELOG.md").read_text())
        self.assertTrue(run(os.environ["QUERN_PROGRAM"], "--version").stdout.startswith(f"quern {version} "))

    def test_scripts_parse(self):
        scripts = [*(p for p in (ROOT / "scripts").iterdir() if p.is_file()), *(p for p in (ROOT / ".ci").iterdir() if p.is_file())]
        self.assertGreaterEqual(len(scripts), 5)
        for script in scripts:
            with self.subTest(script.name):
                self.assertTrue(os.access(script, os.X_OK), "not executable")
                if "python" in script.read_text().splitlines()[0]:
                    compile(script.read_text(), script.name, "exec")
                    continue
                parsed = run("bash", "-n", script)
                self.assertEqual(parsed.returncode, 0, parsed.stderr)
                if shutil.which("shellcheck"):
                    checked = run("shellcheck", script)
                    self.assertEqual(checked.returncode, 0, checked.stdout)


if __name__ == "__main__":
    unittest.main()
