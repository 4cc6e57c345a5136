# SPDX-License-Identifier: Apache-2.0
"""quern bench beyond single tests: ranges, thread counts, profiles, drawings."""
import json
import os
import re
import signal
import time
import unittest
import xml.etree.ElementTree as ElementTree

from program import MODEL, ProgramTest, start

SVG = "{http://www.w3.org/2000/svg}"


class Bench(ProgramTest):
    def rows(self, *options):
        done = self.good("bench", MODEL, "--json", "--repeat", 2, *options)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_ranges_are_tests_in_a_row(self):
        rows = self.rows("--tests", "pp8..32,tg2@0..70,b1..3x2", "--threads", 2)
        self.assertEqual([r["test"] for r in rows],
                         ["pp8", "pp16", "pp32", "tg2@0", "tg2@4", "tg2@8", "tg2@17", "tg2@35", "tg2@70", "b1x2", "b2x2", "b3x2"])
        self.assertEqual({r["sweep"] for r in rows}, {"pp8..32", "tg2@0..70", "b1..3x2"})
        for r in rows:
            self.assertTrue(0 < r["tps"]["min"] <= r["tps"]["median"] <= r["tps"]["max"])

    def test_work_of_a_step_is_told_without_limits(self):
        pp, tg, deep, b = self.rows("--tests", "pp40,tg4,tg4@200,b3x4,load", "--threads", 1)[:4]
        self.assertGreater(pp["tops"], 0)
        self.assertNotIn("gbps", pp)
        for r, sequences in (tg, 1), (deep, 1), (b, 3):
            self.assertAlmostEqual(r["gbps"], r["bytes_per_step"] * r["tps"]["median"] / sequences / 1e9, delta=1e-6 * r["gbps"])
            self.assertNotIn("share_of_bandwidth", r)
        # Weights are read once for all sequences, the state of each is its own and grows with the depth.
        state = (b["bytes_per_step"] - tg["bytes_per_step"]) / 2
        self.assertTrue(0 < state < tg["bytes_per_step"])
        self.assertAlmostEqual(deep["bytes_per_step"] - tg["bytes_per_step"], 3 * state, delta=1)

    def test_a_prompt_pays_for_its_last_token_alone_at_the_end(self):
        rows = self.rows("--tests", "pp32,pp64,pp1100", "--repeat", 1, "--threads", 1)
        # Products of all tokens in a run are linear in their number: what each costs, and what the last costs besides.
        w32, w64, w1100 = (r["tops"] * 1e12 / r["tps"]["median"] / 2 * n for r, n in zip(rows, (32, 64, 1100)))
        token = (w64 - w32) / 32
        end = w32 - 32 * token
        self.assertAlmostEqual(w1100, 1100 * token + end, delta=1e-6 * w1100)
        facts = json.loads(self.good("inspect", MODEL, "--tensors", "--json").stdout)
        size = {t["name"]: t["shape"][0] * t["shape"][-1] for t in facts["tensors"] if len(t["shape"]) == 2}
        last = max(int(name.split(".")[1]) for name in size if name.startswith("blk."))
        ends = ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        expected = sum(size[f"blk.{last}.{name}.weight"] for name in ends) + size.get("output.weight", size["token_embd.weight"])
        self.assertAlmostEqual(end, expected, delta=1e-6 * w64)

    def test_shares_are_those_of_the_limits_measured_with_as_many_threads(self):
        rows = self.rows("--tests", "pp16,tg2", "--sweep-threads", "1,2", "--limits")
        self.assertEqual([(r["test"], r["threads"]) for r in rows],
                         [(t, n) for n in (1, 2) for t in ("limits", "pp16", "tg2")])
        for limits, pp, tg in rows[:3], rows[3:]:
            self.assertAlmostEqual(pp["share_of_int_peak"], pp["tops"] / limits["int_tops"], places=9)
            self.assertAlmostEqual(tg["share_of_bandwidth"], tg["gbps"] / limits["read_gbps"], places=9)

    def test_the_peak_is_that_of_the_test(self):
        with open("/proc/self/clear_refs", "w") as file:
            try:
                file.write("5")
                file.flush()
            except OSError:
                self.skipTest("this kernel keeps the peak")
        plain, limited = ([r for r in self.rows("--tests", "pp8,tg2@4000,pp8", "--threads", 1, *limits) if r["test"] != "limits"]
                          for limits in ([], ["--limits"]))
        for a, b in zip(plain, limited):
            self.assertAlmostEqual(a["peak_bytes"], b["peak_bytes"], delta=8 << 20)

    def test_a_profile_accounts_for_a_step(self):
        rows = self.rows("--tests", "pp40,tg4,load", "--threads", 2, "--profile")
        self.assertEqual([(r["test"], "profile" in r) for r in rows],
                         [("pp40", False), ("pp40", True), ("tg4", False), ("tg4", True), ("load", False)])
        for test, profile in (rows[0], rows[1]), (rows[2], rows[3]):
            phases = {p["phase"]: p for p in profile["profile"]}
            self.assertLessEqual({"embed", "norm", "qkv", "rope", "attention", "attention_out", "ffn_up", "ffn_down", "head", "outside"},
                                 set(phases))
            self.assertAlmostEqual(sum(p["share"] for p in phases.values()), 1, places=9)
            self.assertAlmostEqual(sum(p["ms_per_step"] for p in phases.values()), profile["ms_per_step"], places=6)
            self.assertAlmostEqual(sum(p["barrier_share"] for p in phases.values()), profile["barrier_share"], places=9)
            self.assertEqual(test["barrier_share"], profile["barrier_share"])
            self.assertTrue(0 < profile["barrier_share"] < 1)
            self.assertEqual(profile["barriers_per_step"], int(profile["barriers_per_step"]))
        self.assertEqual((rows[1]["steps"], rows[3]["steps"]), (2, 8))
        table = self.good("bench", MODEL, "--tests", "tg4", "--repeat", 1, "--profile").stdout
        self.assertRegex(table, r"ffn_up +\d+\.\d+ +\d+\.\d %")
        self.assertRegex(table, r"\d+ barriers in a step")

    def test_sampling_is_part_of_the_step(self):
        rows = self.rows("--tests", "tg4+sample,b3x4@8+sample,tg4", "--threads", 2, "--profile")
        self.assertEqual([r["test"] for r in rows[::2]], ["tg4+sample", "b3x4@8+sample", "tg4"])
        phases = [{p["phase"]: p for p in r["profile"]} for r in rows[1::2]]
        self.assertEqual(["sampling" in p for p in phases], [True, True, False])
        for p in phases:
            self.assertAlmostEqual(sum(row["share"] for row in p.values()), 1, places=9)
            self.assertGreater(p["outside"]["share"], 0)
        self.assertIn("+sample", self.refused("bench", MODEL, "--tests", "pp8+sample", code=2))

    def test_a_drawing_shows_every_sweep(self):
        file = self.folder / "speed.svg"
        self.rows("--tests", "pp8..32,tg2@0..8,tg3,load", "--sweep-threads", "1,2", "--plot", file)
        root = ElementTree.parse(file).getroot()
        self.assertEqual(root.tag, SVG + "svg")
        lines = [e for e in root.iter(SVG + "polyline") if e.get("class").startswith("line ")]
        self.assertEqual(sorted(len(e.get("points").split()) for e in lines), [2, 2, 3, 3, 5, 5])
        words = {e.text for e in root.iter(SVG + "text")}
        self.assertLessEqual({MODEL.name, "pp8..32, 1 thread", "pp8..32, 2 threads", "tg3", "load"}, words)
        self.assertEqual(list(self.folder.iterdir()), [file])

    def test_limits_are_drawn(self):
        file = self.folder / "speed.svg"
        self.rows("--tests", "tg2@0..8", "--limits", "--plot", file, "--threads", 1)
        classes = [e.get("class").split()[0] for e in ElementTree.parse(file).getroot().iter(SVG + "polyline")]
        self.assertEqual(sorted(classes), ["limit", "line"])

    def test_a_drawing_that_cannot_be_is_refused_before_anything_is_measured(self):
        slow = "--tests", "pp8..32,tg1000000"
        self.assertIn("No such file", self.refused("bench", MODEL, *slow, "--plot", self.folder / "none" / "x.svg"))
        self.assertIn("folder", self.refused("bench", MODEL, *slow, "--plot", self.folder))
        self.assertIn("range", self.refused("bench", MODEL, "--tests", "pp8", "--plot", self.folder / "x.svg", code=2))
        self.assertIn("both", self.refused("bench", MODEL, "--threads", 1, "--sweep-threads", "1,2", code=2))
        self.assertIn("--sweep-threads", self.refused("bench", MODEL, "--sweep-threads", "1,x", code=2))
        self.assertIn("--profile", self.refused("bench", MODEL, "--tests", "load", "--profile", code=2))
        self.refused("bench", MODEL, "--tests", "pp8..4", code=2)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_ctrl_c_keeps_what_was_measured(self):
        file = self.folder / "speed.svg"
        process = start("bench", MODEL, "--tests", "pp8..16,tg1000000", "--plot", file, "--json", "--memory-budget", "64G")
        seen = [process.stdout.readline() for _ in range(2)]
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual([json.loads(line)["test"] for line in seen], ["pp8", "pp16"])
        self.assertEqual(rest, b"")
        self.assertTrue(re.fullmatch(rb"quern: .*\n|", errors), errors)
        line, = (e for e in ElementTree.parse(file).getroot().iter(SVG + "polyline"))
        self.assertEqual(len(line.get("points").split()), 2)


if __name__ == "__main__":
    unittest.main()
