#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders random small templates with Jinja2 and with `quern template -` and reports where they differ.

    tools/jinja_differential.py [--quern build/release/quern] [--count 2000] [--seed 1]

Needs Python's Jinja2. An error on both sides agrees; an error on our side alone is counted as refused and shown with --refused;
a text that differs, or text where Jinja2 raises, is a finding (exit code 1)."""

import argparse
import datetime
import json
import random
import subprocess
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2026, 1, 15, 10, 30)
CONTEXT = {
    "s": "Hello, World", "u": "Straße ÉCOLE 你好 ΑΣ ", "w": "  a\tb\n c\r\nd ", "e": "", "i": 7, "n": -3, "z": 0, "f": 2.5, "t": True, "none_": None,
    "xs": [3, 1, 2], "ys": ["b", "A", "c", "a"], "d": {"b": 1, "a": [1, 2], "items_": {"k": "v"}}, "empty": {}, "big": 12345678901234567890,
    "rows": [{"n": "x", "v": 2, "ok": True}, {"n": "y", "v": 1, "ok": False}, {"n": "z", "v": 3}],
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "it's \"q\" \\ <b>"}, {"role": "assistant", "content": None}],
}


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


class Generator:
    """Grows a template from a grammar; depth keeps it small."""

    NAMES = [*CONTEXT, "missing", "x", "y", "k", "loop"]
    ATOMS = {
        "text": ["s", "u", "w", "e", "x", "'a'", '"b c"', "''", "'Ωx'", "'%s-%d'", "'{}{x}'", "'a\\nb'", "'ǆ ß'", "'12'", "' 0x1F '", "'\\u00a0'", "ys[1]", "rows[0].n", "messages[1].content"],
        "number": ["i", "n", "z", "f", "t", "xs[0]", "0", "1", "2", "-3", "12", "0.0", "1.5", "-2.25", "1e+20", "3.14159", "1e-07", "true", "rows[0].v", "10 ** 15"],
        "list": ["xs", "ys", "rows", "messages", "[]", "()", "(1,)", "[1, 'a', none]", "range(4)", "range(5, 0, -2)", "d.a", "[[2, 'b'], [1, 'a']]"],
        "dict": ["d", "empty", "{}", "d.items_", "rows[1]", "messages[2]", "{'k': [1], 2: none, true: 0.5}"],
        "any": [*NAMES, "none", "false", "true"],
    }
    TO = {  # from a kind to a kind
        ("text", "text"): ["|upper", "|lower", "|title", "|capitalize", "|trim", "|trim('a')", "|string", "|replace('a', 'X')", "|replace('', '-', 2)", "|indent", "|indent(2, true)",
                           "|safe", "|e", "|reverse", "|truncate(5)", "|center(9)", "|first", "|last", "|default('D', true)", "|forceescape", "|format(1, 2)", "|tojson", ".upper()",
                           ".lower()", ".title()", ".capitalize()", ".swapcase()", ".strip()", ".lstrip('Hl ')", ".rstrip()", ".replace('l', 'L', 1)", ".zfill(20)", ".ljust(20, '.')",
                           ".center(21)", ".rjust(3)", ".casefold()", ".removeprefix('He')", ".removesuffix('d')", ".expandtabs(4)", ".join(ys)", ".format(1, x=2)",
                           "[1:]", "[:2]", "[::-1]", "[-2:]", "[:-1]", "[::2]", "[0]", "[-1]", "[5:1:-2]", " * 2", " ~ i", "|join('-')", " % (1, 2)", " % xs"],
        ("text", "list"): ["|list", ".split()", ".split('l')", ".split(',', 1)", ".rsplit(none, 1)", ".splitlines()", ".splitlines(true)", ".partition(', ')", ".rpartition('o')", "|map('upper')|list"],
        ("text", "number"): ["|length", "|wordcount", "|int", "|int(base=16)", "|float(1.5)", ".find('o')", ".rfind('o', 2)", ".count('l')", ".startswith('H')", ".endswith(('d', 'x'))",
                             ".isdigit()", ".isalpha()", ".isupper()", ".islower()", ".istitle()", ".isspace()", ".isalnum()", ".isidentifier()", ".isnumeric()", ".isprintable()"],
        ("number", "number"): ["|abs", "|round", "|round(1)", "|round(1, 'floor')", "|round(-1)", "|int", "|float", " + 1", " - f", " * 2", " // 2", " % 3", " / 4", " ** 2"],
        ("number", "text"): ["|string", "|tojson", " ~ s", "|upper"],
        ("list", "list"): ["|list", "|sort|list", "|sort(reverse=true)", "|sort(attribute='v')", "|sort(attribute='n,v')", "|reverse|list", "|unique|list", "|map('string')|list", "|map('length')|list",
                           "|map(attribute='n')|list", "|map(attribute='v', default=0)|list", "|select|list", "|reject|list", "|select('odd')|list", "|select('string')|list",
                           "|selectattr('ok')|list", "|rejectattr('v', 'gt', 1)|list", "|selectattr('n', 'in', ['x'])|list", "|selectattr('content', 'none')|list", "|batch(2)|list",
                           "|batch(3, 0)|list", "|slice(2)|list", "|slice(3, 'z')|list", "[1:]", "[:2]", "[::-1]", "[-2:]", "[:-1]", "[::2]", "[5:1:-2]", " + [1]", " * 2", ".copy()"],
        ("list", "text"): ["|join", "|join('-')", "|join(', ', attribute='n')", "|tojson", "|tojson(indent=2)", "|string"],
        ("list", "number"): ["|length", "|count", "|sum", "|min", "|max", "|sum(attribute='v')", ".count(1)", ".index(1)"],
        ("list", "any"): ["|first", "|last", "[0]", "[-1]", "[9]", "|min(attribute='v')", "|max(attribute='n')"],
        ("dict", "list"): ["|items|list", "|dictsort", "|dictsort(by='value')", "|dictsort(reverse=true)", ".items()|list", ".keys()|list", ".values()|list", "|list", ".items()"],
        ("dict", "text"): ["|tojson", "|tojson(indent=4)", "|tojson(sort_keys=true)", "|string", "|join"],
        ("dict", "any"): [".a", ".b", ".n", ".q", "['a']", "['q']", ".get('a')", ".get('q', 5)", ".role", ".content", "|first", "|length", "|attr('a')"],
    }
    TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "callable", "true", "false",
             "odd", "even", "divisibleby 2", "upper", "lower", "in [1, 2]", "eq 1", "sameas none", "gt 1", "escaped", "not none", "not defined"]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def expr(self, depth, kind=None):
        """An expression, most likely of that kind."""
        r = self.r
        kind = kind or r.choice(["text", "text", "number", "list", "list", "dict", "any"])
        if r.random() < 0.03:
            kind = r.choice(list(self.ATOMS))
        if depth <= 0 or r.random() < 0.1:
            return r.choice(self.ATOMS[kind])
        e = lambda k=None: self.expr(depth - 1, k)
        ways = [lambda: self.converted(depth, kind), lambda: self.converted(depth, kind), lambda: self.converted(depth, kind),
                lambda: f"({e(kind)} if {e()} else {e(kind)})"]
        if kind == "text":
            ways += [lambda: f"({e('text')} + {e('text')})", lambda: f"({e()} ~ {e()})"]
        elif kind == "number":
            ways += [lambda: f"({e('number')} {r.choice(['+', '-', '*', '/', '//', '%'])} {e('number')})", lambda: f"({e('number')} {r.choice(['<', '<=', '>', '>='])} {e('number')})",
                     lambda: f"({e()} is {r.choice(self.TESTS)})", lambda: f"({e()} {r.choice(['==', '!=', 'and', 'or'])} {e()})", lambda: f"(not {e()})", lambda: f"-{e('number')}",
                     lambda: f"({e('text')} {r.choice(['in', 'not in'])} {e('text')})", lambda: f"({e()} {r.choice(['in', 'not in'])} {e('list')})",
                     lambda: f"({e('text')} < {e('text')})", lambda: f"({e('number')} < {e('number')} <= {e('number')})"]
        elif kind == "list":
            ways += [lambda: f"[{e()}, {e()}]", lambda: f"({e()}, {e()})", lambda: f"({e('list')} + {e('list')})"]
        elif kind == "dict":
            ways += [lambda: f"{{{e(r.choice(['text', 'number']))}: {e()}}}", lambda: f"dict(a={e()}, b=1)"]
        else:
            ways += [lambda: f"m({e()})", lambda: f"m({e()}, b={e()})", lambda: f"namespace(a={e()}).a", lambda: f"({e()} {r.choice(['or', 'and'])} {e()})", lambda: f"({e()} if {e()})"]
        return r.choice(ways)()

    def converted(self, depth, kind):
        sources = [pair for pair in self.TO if pair[1] == kind]
        if not sources:  # nothing turns into a dict
            return self.r.choice(self.ATOMS[kind])
        source = self.r.choice(sources)
        inner = self.expr(depth - 1, source[0])
        if not inner.replace("_", "a").isalnum():
            inner = f"({inner})"
        return inner + self.r.choice(self.TO[source])

    def space(self):
        return self.r.choice(["", "", " ", "\n", "\n  ", "  ", "x", "\t\n"])

    def tag(self, inside):
        return "{%" + self.r.choice(["", "", "-", "+"]) + f" {inside} " + self.r.choice(["", "", "-"]) + "%}"

    def statement(self, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.35:
            return self.space() + "{{" + r.choice(["", "-"]) + f" {self.expr(2)} " + r.choice(["", "-"]) + "}}" + self.space()
        body = lambda: self.body(depth - 1)
        e = lambda: self.expr(1)
        name = lambda: r.choice(["x", "y", "k", "s", "i"])
        return self.space() + r.choice([
            lambda: self.tag(f"if {e()}") + body() + self.tag("endif"),
            lambda: self.tag(f"if {e()}") + body() + self.tag(f"elif {e()}") + body() + self.tag("else") + body() + self.tag("endif"),
            lambda: self.tag(f"for {name()} in {self.expr(1, 'list')}") + body() + self.tag("endfor"),
            lambda: self.tag(f"for {name()} in {r.choice(['xs', 'ys', 'rows', 'd', 'range(3)', 'messages'])}{r.choice(['', ' if ' + e()])}") + body()
            + r.choice(["{{ loop.index }}{{ loop.last }}", "{{ loop.revindex0 }}", "{{ loop.previtem }}{{ loop.nextitem }}", "{{ loop.cycle(1, 2) }}",
                        "{% if loop.first %}{% continue %}{% endif %}", "{% if loop.index0 == 1 %}{% break %}{% endif %}", "{{ loop.changed(x) }}", ""])
            + body() + self.tag("else") + "E" + self.tag("endfor"),
            lambda: self.tag(f"for k, x in {r.choice(['d.items()', 'd|items', 'd|dictsort', '[(1, 2), [3, 4]]'])}") + body() + self.tag("endfor"),
            lambda: self.tag(f"set {name()} = {e()}"), lambda: self.tag(f"set {name()} = {e()}"), lambda: self.tag(f"set x, y = {self.expr(0)}, {e()}"),
            lambda: self.tag(f"set {name()}") + body() + self.tag("endset"), lambda: self.tag("set x | upper") + body() + self.tag("endset"),
            lambda: self.tag(f"macro m(a, b={e()})") + body() + "{{ a }}{{ b }}{{ varargs }}" + self.tag("endmacro"),
            lambda: self.tag(f"call m({e()})") + body() + self.tag("endcall"), lambda: self.tag("filter upper") + body() + self.tag("endfilter"),
            lambda: self.tag(f"with x = {e()}") + body() + self.tag("endwith"), lambda: "{#" + r.choice(["", "-"]) + " c " + r.choice(["", "-"]) + "#}",
            lambda: self.tag("raw") + " {{ x }} " + self.tag("endraw"), lambda: self.tag("set ns = namespace(v=1)") + self.tag(f"set ns.v = {e()}") + "{{ ns.v }}"])()

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.r.randint(1, 3)))

    def template(self):
        head = "{% macro m(a, b=2) %}<{{ a }}|{{ b }}{% if caller %}{{ caller() }}{% endif %}>{% endmacro %}" if self.r.random() < 0.5 else ""
        return head + self.body(self.r.randint(0, 3))


def reference(env, template):
    try:
        compiled = env.from_string(template)
    except jinja2.TemplateSyntaxError as error:
        return {"error": str(error)}
    except Exception:  # Jinja2 stumbles while it folds constants, in a branch that may never run
        return None
    try:
        text = compiled.render(**json.loads(json.dumps(CONTEXT)))
        text.encode("utf-8")
        return {"text": text}
    except Exception as error:  # whatever Jinja2 or Python raises is an error of the template
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quern", default="build/release/quern")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--refused", action="store_true", help="show what only Quern refuses")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # Python's remarks on odd templates
    env = environment()
    templates = [Generator(args.seed * 1_000_003 + i).template() for i in range(args.count)]
    rows = "\n".join(json.dumps({"template": t, "context": CONTEXT, "now": NOW.isoformat()}) for t in templates)
    run = subprocess.run([args.quern, "template", "-", "--jsonl"], input=rows, capture_output=True, encoding="utf-8")
    lines = [json.loads(line) for line in run.stdout.rstrip("\n").split("\n")]
    if len(lines) != len(templates):
        sys.exit(f"{len(lines)} answers to {len(templates)} templates: {run.stderr.strip()}")
    wrong = refused = both = 0
    for template, ours in zip(templates, lines):
        theirs = reference(env, template)
        if theirs is None:
            both += 1
        elif "error" in theirs and "error" in ours:
            both += 1
        elif "error" in ours:
            if " at 0x" in theirs["text"] or "<function" in theirs["text"]:  # the text of a Python object: refused by design
                both += 1
                continue
            refused += 1
            if args.refused:
                print(json.dumps({"template": template, "ours": ours["error"], "theirs": theirs["text"]}, ensure_ascii=False))
        elif ours != theirs:
            wrong += 1
            print(json.dumps({"template": template, "ours": ours, "theirs": theirs}, ensure_ascii=False))
    print(f"{args.count} templates: {wrong} differ, {refused} refused by Quern alone, {both} errors on both sides", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
