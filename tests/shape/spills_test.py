# SPDX-License-Identifier: Apache-2.0
"""Tiles of the matrix kernels fit the registers. Their innermost loops are disassembled; moves of vector registers to and from the stack, per multiply
instruction, keep to a budget. A mask or a sum that stays alive for too long shows here, on any machine, before it shows in a measurement."""
import collections
import fnmatch
import os
import pathlib
import re
import unittest

from tree import SOURCES, run

# Moves per multiply instruction, a column for each size of tile, 1 .. 8 tokens. The first pattern of codes/scales or float/form that fits counts.
# With 32 registers and GCC 12, the project's compiler, it is what was measured: none, but some words that unpack six bits and packed scales in tiles
# of 4 tokens and more, and sums of 7 and 8 tokens and two panels, which are in memory on purpose. With 16 registers
# sums of large tiles are in memory on purpose (matmul_tile.h says why), and so are codes and masks of forms that unpack much: what was measured, a tenth
# and 0.1 more. Clang 19 spills more and builds no release: one row for all that it measured, with the same allowance.
BUDGETS = {
    "GNU avx512": """
        nibbles/sub_6_min       0     0     0     0     0   .05   .12    .2
        nibbles/sub_16_min      0     0     0     0     0   .05     0   .35
        nibbles/sub_16          0     0     0   .05     0     0   .06   .15
        five_bits/sub_6_min     0     0     0     0     0   .04    .1   .15
        six_bits/sub_16         0     0     0   .25     0     0   .06    .2
        *                       0     0     0     0     0     0   .05    .1
    """,
    "GNU avx2": """
        nibbles/half*          .1    .1   .35   .35    .7   .75    .8   .95
        nibbles/sub_6_min      .2    .4    .5   .55   .75   .75   .75   .75
        nibbles/sub_16*        .2    .6   .95   1.1  1.05   1.1   1.1  1.05
        table/*                .1   .35   .55   .75     1  1.05   1.1  1.15
        wide_table/half        .1   .25    .4   .75   1.3  1.35  1.35   1.4
        wide_table/sub        .25   .25   .45     1   1.3   1.3   1.3  1.35
        five_bits/half*        .1   .55   .75    .8     1   1.2  1.05  1.15
        five_bits/sub_6_min   .65    .8   .85    .9     1     1     1   .95
        six_bits/*             .8    .9  1.45  1.75  1.35  1.35   1.3   1.3
        bytes/*                .1    .1    .3    .4   1.1   1.2   1.2  1.25
        float/*                 0     0     0
    """,
    "GNU avx_vnni": """
        nibbles/half*          .1    .1   .15    .3   .45    .5    .8  1.25
        nibbles/sub_6_min     .35    .2   .35    .4    .5   .65  1.05  1.25
        nibbles/sub_16        .15    .1    .1    .4   .55   .85   .95  1.25
        nibbles/sub_16_min    .15   .35    .5   .75    .9   1.1  1.45   1.7
        *table/*               .1    .1    .2    .3    .4    .6    .9   1.2
        five_bits/half*        .1   .25    .4   .45   .85  1.15  1.35   1.6
        five_bits/sub_6_min   .55    .4    .5    .7   .85   1.2   1.5  1.65
        six_bits/*            .15    .1   .45   .65   .75   1.0  1.25  1.45
        bytes/*                .1    .1    .1    .2    .3    .4    .6   .95
        float/*                 0     0     0
    """,
    "GNU x86_64_v2": """
        nibbles/half*          .4    .4    .4   .45   .85   .95  1.05   1.1
        nibbles/sub_6_min      .9    .4    .5   .55   .75   .75    .7   .75
        nibbles/sub_16*       1.2   .65   .95   1.1  1.05  1.05  1.05  1.05
        table/*                .4   .35    .5   .65    .8   .85    .9    .9
        wide_table/half        .8   .35    .4    .6  1.35  1.35   1.4   1.4
        wide_table/sub       2.45   .25    .8   1.3  1.75   1.7  1.45   1.9
        five_bits/half*       .65   .45   .75    .8     1   1.1   1.1  1.25
        five_bits/sub_6_min  1.75    .8   .85    .9     1   .95    .9    .9
        six_bits/*           3.15     1   1.5  1.65   1.4   1.4  1.35  1.35
        bytes/*                .4    .2   .35    .4  1.15   1.2  1.25   1.3
        float/f16             .25     0   .65
        float/*                 0     0     0
    """,
    "Clang avx512": """
        float/*                 0     0     0     0     0     0
        *                     .15    .3   .35   .45    .5    .5   .75    .6
    """,
    "Clang avx2": """
        float/*                 0     0     0
        *                     1.5  1.55     2  2.25  1.65  1.55  1.65   1.6
    """,
    "Clang avx_vnni": """
        float/*                 0     0     0
        *                     .85   .75    .8   .95   1.2  1.55   1.8  1.95
    """,
    "Clang x86_64_v2": """
        float/f16              .4     0   .65
        float/*                 0     0     0
        *                    4.15  2.05  2.35   2.6  2.25   2.3   2.2   2.2
    """,
}

# The products with inputs. A tile of T tokens has 8 T of them in a group of 32 columns, for each of its registers; with floats at least 4 T
# in four columns (x86-64-v2 widens binary16 by products).
MULTIPLY = {
    "avx512": {"matmul": "vpdpbusd", "matmul_two_streams": "vpdpbusd", "matmul_unpacked": "vpdpbusd", "matmul_float": r"vfmadd\w+ps"},
    "avx_vnni": {"matmul": "vpdpbusd", "matmul_float": r"vfmadd\w+ps"},
    "avx2": {"matmul": "vpmaddubsw", "matmul_float": r"vfmadd\w+ps"},
    "x86_64_v2": {"matmul": "pmaddubsw", "matmul_float": "mulps"},
}

# Of a function: the form of its weights, and the tokens of its tile.
Tile = collections.namedtuple("Tile", "name form tokens")
# Of a loop: how many instructions are of either kind.
Loop = collections.namedtuple("Loop", "moves multiplies")


def enumerators(name):
    """Of an enum class, in order: a listing has their numbers."""
    body = re.search(rf"enum class {name} : uint8_t {{(.*?)}}", (SOURCES / "kernels/matmul.h").read_text(), re.S).group(1)
    return re.findall(r"\w+", re.sub(r"//.*", "", body))


CODES, SCALES, FLOATS = enumerators("Codes"), enumerators("Scales"), enumerators("FloatForm")


def tile(function):
    """What the name says, or None for a function that is no part of a tile's."""
    if m := re.search(r"(\w+)<\(quern::Codes\)(\d+), \(quern::Scales\)(\d+), (\d+)([^>]*>)", function):
        codes, scales = CODES[int(m[2])], SCALES[int(m[3])]
        return Tile(f"{m[1]}<{codes}, {scales}, {m[4]}{m[5]}", f"{codes}/{scales}", int(m[4]))
    if m := re.search(r"(\w+)<\(quern::FloatForm\)(\d+), (\d+)([^>]*>)", function):
        return Tile(f"{m[1]}<{FLOATS[int(m[2])]}, {m[3]}{m[4]}", f"float/{FLOATS[int(m[2])]}", int(m[3]))
    return None


def functions(listing):
    """Name and code of each function of a disassembly; code is pairs of address and instruction."""
    for function in re.split(r"^[0-9a-f]+ <", listing, flags=re.M)[1:]:
        name, _, lines = function.partition(">:\n")
        yield name, [(int(a, 16), text) for a, text in re.findall(r"^ *([0-9a-f]+):\t(?:{vex} )?(\S.*)", lines, re.M)]


def loops(code, multiply):
    """The innermost loops (what a jump backward spans) that have multiply instructions."""
    multiplies = [address for address, text in code if re.match(rf"{multiply}\s", text)]
    spans = set()
    for address, text in code:
        if (m := re.match(r"j\w+\s+([0-9a-f]+) <", text)) and int(m[1], 16) <= address:
            span = (int(m[1], 16), address)
            if any(span[0] <= at <= span[1] for at in multiplies):
                spans.add(span)
    # With a frame pointer its slots are the stack's too; without one %rbp is a register like any other.
    frame = any(re.match(r"mov\s+%rsp,%rbp$", text) for _, text in code)
    slot = re.compile(r"\(%r[sb]p[,)]" if frame else r"\(%rsp[,)]")
    found = []
    for first, last in sorted(spans):
        if not any(other != (first, last) and first <= other[0] and other[1] <= last for other in spans):
            inside = [text for address, text in code if first <= address <= last]
            found.append(Loop(sum(1 for text in inside if slot.search(text) and re.search("%[xyz]mm", text)),
                              sum(1 for at in multiplies if first <= at <= last)))
    return found


def hot_loops(listing, level, kernel):
    """Tile and loop of each loop over groups, or over four columns of floats; the tiles that the names promise."""
    hot, promised = [], set()
    for name, code in functions(listing):
        if of := tile(name):
            promised.add(of[1:])
            found = loops(code, MULTIPLY[level][kernel])
            if kernel == "matmul_float":  # the others are for the columns and rows that are left over
                found = [loop for loop in found if loop == max(found, key=lambda loop: loop.multiplies)]
            hot += [(of, loop) for loop in found]
    return hot, promised


def budget(compiler, level, of):
    for line in BUDGETS[f"{compiler} {level}"].strip().split("\n"):
        pattern, *ratios = line.split()
        if fnmatch.fnmatch(of.form, pattern):
            return pattern, float(ratios[of.tokens - 1])
    return None, 0


def problem(compiler, level, of, loop):
    if loop.multiplies < (4 if of.form.startswith("float") else 8) * of.tokens:
        return f"{level} {of.name}: {loop.multiplies} multiply instructions are less than a group of {of.tokens} tokens"
    _, ratio = budget(compiler, level, of)
    if loop.moves > ratio * loop.multiplies:
        return (f"{level} {of.name}: {loop.moves} moves to or from the stack, {loop.multiplies} multiply instructions: {loop.moves / loop.multiplies:.2f} each, "
                f"budget {ratio}")
    return None


# A loop over groups with three moves (a load, a store, an operand) and two multiply instructions, the loop inside that fetches ahead, and a loop around it. Of
# what is no such move there is a counter on the stack, a load from where another register points, and a move outside.
LISTING = """
0000000000000040 <void quern::avx2::(anonymous namespace)::rows_per_32<(quern::Codes)0, (quern::Scales)1, 1, 2>(quern::IntegerTile const&, int)>:
  40:\tpush   %rbp
  41:\tmov    %rsp,%rbp
  44:\tvmovdqa %ymm1,0x20(%rsp)
  4a:\tprefetcht0 (%rbx)
  4d:\tjne    4a <void quern::avx2::(anonymous namespace)::rows_per_32<(quern::Codes)0, (quern::Scales)1, 1, 2>(quern::IntegerTile const&, int)+0xa>
  4f:\tvmovdqa 0x20(%rsp),%ymm1
  55:\tvpmaddubsw (%rax),%ymm2,%ymm3
  5a:\tvpaddw -0x40(%rbp),%ymm3,%ymm3
  60:\tvpmaddubsw %ymm1,%ymm2,%ymm4
  65:\tvmovdqa %ymm4,0x40(%rsp,%rcx,1)
  6b:\tdecl   0x8(%rsp)
  6f:\tjne    4a <void quern::avx2::(anonymous namespace)::rows_per_32<(quern::Codes)0, (quern::Scales)1, 1, 2>(quern::IntegerTile const&, int)+0xa>
  71:\tvmovdqa %ymm3,0x20(%rsp)
  77:\tjmp    44 <void quern::avx2::(anonymous namespace)::rows_per_32<(quern::Codes)0, (quern::Scales)1, 1, 2>(quern::IntegerTile const&, int)+0x4>
"""


class Spills(unittest.TestCase):
    def test_loops_keep_to_their_budgets(self):
        compiler = os.environ["QUERN_COMPILER"]
        unused = {(level, row.split()[0]) for level in MULTIPLY for row in BUDGETS[f"{compiler} {level}"].strip().split("\n")}
        problems, objects = [], 0
        for path in pathlib.Path(os.environ["QUERN_ISA_OBJECTS"]).read_text().split():
            level, kernel = re.search(r"quern_[a-z]+_(\w+)\.dir.*?(\w+)(?:\.\w+)?\.kernel\.cpp", path).groups()
            if kernel not in MULTIPLY.get(level, {}):  # avx512_bf16 has attention alone
                continue
            objects += 1
            objdump = run("objdump", "-d", "-C", "--no-show-raw-insn", path)
            self.assertEqual(objdump.returncode, 0, objdump.stderr)
            hot, promised = hot_loops(objdump.stdout, level, kernel)
            # Thirteen forms of up to 8 tokens, nine of 5 and 6, three of up to 3: nothing passes because nothing was found.
            self.assertGreaterEqual(len(promised), {"matmul": 100, "matmul_two_streams": 100, "matmul_unpacked": 18, "matmul_float": 9}[kernel], path)
            for form, tokens in sorted(promised - {of[1:] for of, _ in hot}):
                problems.append(f"{level} {form}, {tokens} tokens: no loop")
            problems += [line for of, loop in hot if (line := problem(compiler, level, of, loop))]
            unused -= {(level, budget(compiler, level, of)[0]) for of, _ in hot}
        self.assertEqual(objects, sum(map(len, MULTIPLY.values())))
        if problems:
            self.fail("\n" + "\n".join(problems))
        self.assertEqual(unused, set(), "budgets that no kernel has")

    def test_moves_of_a_known_loop_are_counted(self):
        [(of, loop)], promised = hot_loops(LISTING, "avx2", "matmul")
        self.assertEqual(of, Tile("rows_per_32<nibbles, half_min, 1, 2>", "nibbles/half_min", 1))
        self.assertEqual(promised, {("nibbles/half_min", 1)})
        self.assertEqual(loop, Loop(moves=3, multiplies=2))
        # Without a frame pointer -0x40(%rbp) is anywhere.
        [(_, loop)], _ = hot_loops(LISTING.replace("mov    %rsp,%rbp", "mov    %rdi,%rbp"), "avx2", "matmul")
        self.assertEqual(loop, Loop(moves=2, multiplies=2))
        self.assertEqual(hot_loops(LISTING, "avx512", "matmul")[0], [])

    def test_a_loop_above_its_budget_is_a_problem(self):
        of = Tile("rows_per_32<nibbles, half, 4, 2>", "nibbles/half", 4)
        self.assertIsNone(problem("GNU", "avx512", of, Loop(0, 64)))
        self.assertIn("1 moves to or from the stack, 64 multiply instructions", problem("GNU", "avx512", of, Loop(1, 64)))
        self.assertIn("less than a group", problem("GNU", "avx512", of, Loop(0, 8 * of.tokens - 2)))
        self.assertIsNone(problem("GNU", "avx2", of, Loop(12, 64)))
        self.assertIn("budget", problem("GNU", "avx2", of, Loop(48, 64)))


if __name__ == "__main__":
    unittest.main()
