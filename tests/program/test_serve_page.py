# SPDX-License-Identifier: Apache-2.0
"""docs/serve.md stays true: its commands run against a server on the demo model as they stand there, and every route, option and metric of
the program is on the page. Run by scripts/test."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUERN = os.environ.get("QUERN", str(ROOT / "build/release/quern"))
PAGE = (ROOT / "docs/serve.md").read_text()
ADDRESS = "localhost:8080"


def section(title):
    """The text below a heading, up to the next one of its rank."""
    rank, begin = re.search(rf"^(#+) {re.escape(title)}\n()", PAGE, re.M).group(1), PAGE.index(f"# {title}\n")
    rest = PAGE[begin + len(title) + 3:]
    end = re.search(rf"^#{{1,{len(rank)}}} ", rest, re.M)
    return rest[:end.start()] if end else rest


def commands(text):
    return [line.strip() for line in text.splitlines() if line.startswith("    ") and "curl " in line]


def status_of(command):
    """The status that a command says to expect, "# 501"; 200 where it says none."""
    said = re.search(r"  # (\d{3})$", command)
    return int(said.group(1)) if said else 200


COMMANDS = commands(section("Quick start")) + commands(section("Routes"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = subprocess.run([ROOT / "scripts/fetch-demo-model"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert model.returncode == 0, model.stderr
    log = tmp_path_factory.mktemp("serve") / "log"
    with open(log, "w") as err:
        process = subprocess.Popen([QUERN, "serve", model.stdout.strip(), "--port", "0", "--ctx", "2048"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=err)
    try:
        yield address_of(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code == 0, log.read_text()


def address_of(process, log):
    for _ in range(600):
        said = re.search(r"^listening on http://(\S+)$", log.read_text(), re.M)
        if said:
            return said.group(1)
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError("no line `listening on`: " + log.read_text())


def get(server, path):
    with urllib.request.urlopen(f"http://{server}{path}", timeout=60) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def answers(server, tmp_path_factory):
    """What each command gave, as (exit status, HTTP status, body). One shell runs them all: later ones use variables of earlier ones."""
    folder = tmp_path_factory.mktemp("answers")
    lines = ["set -o pipefail", f"curl() {{ command curl -sS -m 120 -o \"$B\" -w '%{{stderr}}%{{http_code}}' \"$@\" 2>\"$B.status\" && cat \"$B\"; }}"]
    for i, command in enumerate(COMMANDS):
        lines += [f"B={folder}/{i}", command.replace(ADDRESS, server), f"echo $? >{folder}/{i}.exit"]
    subprocess.run(["bash", "-c", "\n".join(lines)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=600)
    return [tuple((folder / f"{i}{ending}").read_text().strip() for ending in (".exit", ".status", "")) for i in range(len(COMMANDS))]


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda i: f"{i}:{re.search(r'/[a-z0-9_/]*', COMMANDS[i].split(ADDRESS)[1]).group()}")
def test_a_command_works_as_it_is_written(answers, number):
    left, status, body = answers[number]
    assert (left, status) == ("0", str(status_of(COMMANDS[number]))), (COMMANDS[number], body[:500])
    if status == "200":
        assert body
        assert not re.search(r'^(data: )?\{"error":', body, re.M), body[:500]


def test_the_stream_and_the_capital_are_as_the_page_says(answers):
    france = answers[0][2]
    assert "Paris" in json.loads(france)["choices"][0]["message"]["content"], france
    stream = next(body for command, (_, _, body) in zip(COMMANDS, answers) if '"stream": true' in command)
    events = [line for line in stream.splitlines() if line]
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["usage"]["completion_tokens"] > 0


def test_every_route_has_a_command(server):
    asked = set()
    for command in COMMANDS:
        method = "POST" if " -d '" in command else "DELETE" if " -X DELETE" in command else "GET"
        path = re.search(r"localhost:8080(/[^\s|]*)", command).group(1)
        asked.add((method, re.sub(r"^(/v1/(?:responses/|models/))(?!input_tokens)[^/]+", r"\1{id}", path)))
    there = {(method.upper(), path) for path, item in json.loads(get(server, "/openapi.json"))["paths"].items() for method in item}
    there.discard(("GET", "/"))  # the page for browsers
    assert there - asked == set() and asked - there == set()


def test_every_metric_is_explained(server):
    there = set(re.findall(r"^# TYPE (\S+)", get(server, "/metrics"), re.M))
    assert len(there) > 10
    assert there == set(re.findall(r"`(quern_\w+)`", section("Metrics")))


def test_the_limits_are_those_of_the_source():
    source = (ROOT / "src/quern/server/http_limits.h").read_text()
    bytes_of = {name: int(n) << int(shift) for name, n, shift in re.findall(r"(\w+_bytes) = (\d+) << (\d+)", source)}
    seconds = re.findall(r"\w+_time\{(\d+)\}", source)
    assert len(bytes_of) == 6 and len(seconds) == 5, (bytes_of, seconds)
    text = section("Limits and timeouts")
    for said in [f"{b >> 20} MiB" if b >> 20 else f"{b >> 10} KiB" for b in bytes_of.values()] + [f"{s} s" for s in seconds]:
        assert re.search(rf"(?<!\d){said}\b", text), said
    for name, pattern in (("connections", r"int connections = (\d+)"), ("fields", r"header_fields = (\d+)")):
        assert f"{int(re.search(pattern, source).group(1)):,}" in text, name


def test_every_option_is_explained():
    said = subprocess.run([QUERN, "serve", "--help"], capture_output=True, text=True, timeout=60).stdout
    own = set(re.findall(r"^  (--[a-z-]+)", said.split("\nOptions\n")[1].split("\n\n")[0], re.M))
    assert len(own) > 10
    assert own - set(re.findall(r"--[a-z-]+", section("Options"))) == set()


def test_every_option_on_the_page_exists():
    said = subprocess.run([QUERN, "serve", "--help"], capture_output=True, text=True, timeout=60).stdout
    of_others = {"--oss", "--model"}  # of clients
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - of_others <= set(re.findall(r"--[a-z-]+", said))
