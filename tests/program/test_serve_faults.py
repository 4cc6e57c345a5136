# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around a server: disks, clients, limits, signals, files. Each fault harms whom it must and nobody else. Run by scripts/test."""
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import pytest
from serving import (COMPLETIONS, MODEL, QUERN, ROOT, Server, body, disconnect, free_port, prompt, read_rest, read_some, stream_text,
                     unchunked, wait_until)

CONTEXT = ("--ctx", "100000")
LONG = 90000  # tokens that nobody waits for to the end
SCORED = dict(echo=True, logprobs=0, stream=False)  # every token of the prompt is scored, which takes its time


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture(scope="module")
def alone():
    """(request, its text on a server without a cache that does nothing else)"""
    requests = [body(800, n=100 + 70 * i, seed=i) for i in range(4)]
    log = pathlib.Path(os.environ.get("PYTEST_TMPDIR", "/tmp")) / f"quern-alone-{os.getpid()}"
    with Server(log, *CONTEXT) as server:
        found = [(r, server.complete(r)) for r in requests]
    log.unlink()
    return found


class Neighbour:
    """Somebody who streams while others misbehave; `check` in the end."""

    def __init__(self, server, alone):
        self.server, self.alone, self.rounds, self.wrong, self.over = server, alone, 0, [], threading.Event()
        self.thread = threading.Thread(target=self.go)
        self.thread.start()

    def go(self):
        try:
            while not self.over.is_set():
                request, expected = self.alone[self.rounds % len(self.alone)]
                text, end = stream_text(read_rest(self.server.open({**request, "stream": True})))
                if (text, end) != (expected, "done"):
                    self.wrong.append((end, text[:80], expected[:80]))
                self.rounds += 1
        except Exception as e:  # told by `check`, on the test's thread
            self.wrong.append(repr(e))

    def check(self):
        self.over.set()
        self.thread.join(60)
        assert not self.thread.is_alive() and not self.wrong, self.wrong[:2]
        assert self.rounds > 0


# -- disks


def notes(server, word):
    return [line for line in server.log().splitlines() if word in line and "listening" not in line]


def use_cache(server, alone):
    """Prompts that fill some blocks each, asked twice; the answers are right."""
    for request, expected in alone * 2:
        assert server.complete(request) == expected


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 10, 12 << 10))


def test_a_limit_of_file_sizes_is_told_once_and_serving_goes_on(log, tmp_path, alone):
    cache = tmp_path / "cache"
    with Server(log, *CONTEXT, "--cache-dir", cache, preexec_fn=limit_file_size) as server:
        use_cache(server, alone)
        wait_until(lambda: notes(server, str(cache)), 5, server.log)
        use_cache(server, alone)
        assert server.end() == 0
        assert len(notes(server, str(cache))) == 1, server.log()
    assert not list(cache.rglob("*.tmp"))


@pytest.fixture
def mounted(tmp_path):
    """mount(*options): a small disk of its own."""
    places = []

    def mount(place, *options):
        place.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", place], capture_output=True).returncode != 0:
            pytest.skip("mounting a small disk needs root")
        places.append(place)
    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_once_and_used_again_when_it_has_room(log, tmp_path, alone, mounted):
    disk = tmp_path / "disk"
    mounted(disk, "-o", "size=256k")
    (disk / "ballast").write_bytes(bytes(240 << 10))
    with Server(log, *CONTEXT, "--cache-dir", disk / "cache") as server:
        use_cache(server, alone)
        wait_until(lambda: notes(server, str(disk)), 5, server.log)
        (disk / "ballast").unlink()
        server.complete(body(1, n=200, seed=9))
        wait_until(lambda: [f for f in (disk / "cache").rglob("*") if f.is_file() and ".tmp" not in f.name], 5, server.log)
        assert server.end() == 0
        assert len(notes(server, str(disk))) == 1, server.log()


def test_a_read_only_disk_is_told_once_and_what_is_there_is_used(log, tmp_path, alone, mounted):
    disk = tmp_path / "disk"
    mounted(disk)
    options = (*CONTEXT, "--cache-dir", disk / "cache")
    with Server(log, *options) as server:
        use_cache(server, alone[:1])
        assert server.end() == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with Server(log, *options) as server:
        use_cache(server, alone)
        assert server.metrics()["quern_prefix_cache_hit_tokens_total"] > 0
        wait_until(lambda: notes(server, str(disk)), 5, server.log)
        use_cache(server, alone)
        assert server.end() == 0
        assert len(notes(server, str(disk))) == 1, server.log()


@pytest.mark.parametrize("option", ["--cache-dir", "--store-dir"])
def test_a_folder_that_is_a_file_ends_the_start(log, tmp_path, option):
    file = tmp_path / "file"
    file.write_text("mine")
    with Server(log, option, file, wait=False) as server:
        assert server.process.wait(20) == 1
        last = server.log().splitlines()[-1]
        assert last.startswith("quern: ") and str(file) in last, last
    assert file.read_text() == "mine"


def test_a_kill_while_it_writes_leaves_a_cache_that_is_right(log, tmp_path, alone):
    cache, rng = tmp_path / "cache", random.Random(1)
    for _ in range(8):
        with Server(log, *CONTEXT, "--cache-dir", cache) as server:
            streams = [server.open(body(LONG, n=3000, seed=rng.randrange(1000), stream=True)) for _ in range(3)]
            for s in streams:
                read_some(s)
            time.sleep(rng.random() * 0.2)
            server.process.kill()
            server.process.wait(10)
            for s in streams:
                s.close()
    with Server(log, *CONTEXT, "--cache-dir", cache) as server:
        assert not list(cache.rglob("*.tmp")), "left over"
        use_cache(server, alone)
        assert server.end() == 0
    for file in cache.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


# -- clients


def wait_for_company(server):
    """Somebody beside the neighbour has a place and keeps it."""
    wait_until(lambda: all(server.metrics()["quern_requests_running"] == 2 for _ in range(3)), 10, server.metrics)
    time.sleep(0.2)


def gone_in_queue(server):
    """Two places, taken; the third waits."""
    holders = [server.open(body(LONG, seed=50 + i, stream=True)) for i in range(2)]
    for s in holders:
        read_some(s)
    s = server.open(body(LONG, seed=60, stream=True))
    server.wait_for(requests_waiting=1)
    return [s, *holders]


def gone_in_body(server):
    return [server.send(server.raw(body(10))[:-20])]


def gone_in_prefill(server):
    s = server.open(body(1, n=40000, seed=3, **SCORED))
    wait_for_company(server)
    return [s]


def gone_in_decode(server):
    s = server.open(body(LONG, seed=4, stream=True))
    read_some(s, 2000)
    return [s]


def gone_in_frame(server):
    """A small window and nothing read: the kernel holds a part of an event."""
    s = server.open(body(LONG, seed=5, stream=True, logprobs=5), receive_bytes=2048)
    wait_for_company(server)
    return [s]


def gone_after_last_token(server):
    s = server.open(body(20, seed=6, stream=True))
    read_some(s, 600)
    time.sleep(0.1)
    return [s]


PHASES = (gone_in_queue, gone_in_body, gone_in_prefill, gone_in_decode, gone_in_frame, gone_after_last_token)


def test_clients_that_go_leave_nothing_and_harm_nobody(log, alone):
    with Server(log, *CONTEXT, "--parallel", 3, "--speculate", "off") as server:
        server.wait_until_idle()
        files = server.open_files()
        neighbour = Neighbour(server, alone)
        for phase in PHASES:
            for reset in (False, True):
                for s in phase(server):
                    disconnect(s, reset)
                begin = time.monotonic()
                # All but the neighbour's own.
                wait_until(lambda: (m := server.metrics())["quern_requests_running"] <= 1 and not m["quern_requests_waiting"], 5,
                           lambda: f"{phase.__name__}, reset {reset}: {server.metrics()}")
                assert time.monotonic() - begin < 2, phase.__name__
        neighbour.check()
        server.wait_until_idle()
        wait_until(lambda: server.open_files() <= files, 7, lambda: f"{server.open_files()} files, {files} before")
        assert server.end() == 0


def test_random_cancels_leave_no_page(log, alone):
    rng = random.Random(2)
    with Server(log, *CONTEXT, "--parallel", 6) as server:
        neighbour = Neighbour(server, alone)

        def cancels(seed):
            rng = random.Random(seed)
            for _ in range(50):
                kind = SCORED if rng.random() < 0.2 else {"stream": rng.random() < 0.7, "n": rng.choice((1, 1, 3))}
                s = server.open({**body(LONG, n=rng.choice((1, 70, 500, 3000)), seed=rng.randrange(40)), **kind})
                time.sleep(rng.random() ** 3 * 0.25)
                disconnect(s, rng.random() < 0.5)
        crowd = [threading.Thread(target=cancels, args=(rng.random(),)) for _ in range(6)]
        for t in crowd:
            t.start()
        for t in crowd:
            t.join(60)
        neighbour.check()
        server.wait_until_idle()
        assert server.metrics()["quern_requests_total"] > 200
        assert server.end() == 0  # a page that somebody still holds fails a check at the end


def test_slow_readers_wait_for_themselves_alone(log, alone):
    with Server(log, *CONTEXT, "--parallel", 8, "--speculate", "off") as server:
        slow = [server.open(body(LONG, seed=i, stream=True, logprobs=5), receive_bytes=2048) for i in range(6)]
        server.wait_for(requests_running=6)
        memory = lambda: int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{server.process.pid}/status").read_text())[1])
        before = memory()
        for request, expected in alone[:2]:
            assert server.complete(request) == expected
            for s in slow:
                s.recv(1)
        # Each is given up when more than its share waits for it.
        server.wait_for(60, requests_running=0)
        assert server.metrics()["quern_tokens_generated_total"] < 6 * LONG, "they were served to the end"
        assert memory() - before < 64 << 10, "KiB"
        server.wait_until_idle()
        for s in slow:
            s.close()
        assert server.end() == 0


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))


def test_more_connections_than_files_cost_nothing_and_pass(log, alone):
    with Server(log, *CONTEXT, preexec_fn=few_files) as server:
        request, expected = alone[0]
        assert server.complete(request) == expected
        crowd = []
        for _ in range(1000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", server.port))
            crowd.append(s)
        time.sleep(0.5)
        before = server.cpu_seconds()
        time.sleep(2)
        assert server.cpu_seconds() - before < 0.2, "it spins"
        for s in crowd:
            s.close()
        begin = time.monotonic()
        assert server.complete(request) == expected
        assert time.monotonic() - begin < 5
        assert server.end() == 0


# -- signals


def test_a_server_that_was_stopped_goes_on(log, alone):
    with Server(log, *CONTEXT) as server:
        request, expected = alone[0]
        s = server.open({**request, "stream": True})
        first = read_some(s)
        server.process.send_signal(signal.SIGSTOP)
        waiting = server.open({**request, "stream": True})
        time.sleep(2)
        server.process.send_signal(signal.SIGCONT)
        assert stream_text(first + read_rest(s)) == (expected, "done")
        assert stream_text(read_rest(waiting)) == (expected, "done")
        assert server.end() == 0


def collect(s, into, i):
    into[i] = read_rest(s)
    s.close()


def ended_streams(server, requests, delay, sig):
    """How each of the streams ends when the signal comes after `delay` seconds; the exit code."""
    data = [b""] * len(requests)
    connections = [server.open(r) for r in requests]
    readers = [threading.Thread(target=collect, args=(s, data, i)) for i, s in enumerate(connections)]
    for t in readers:
        t.start()
    time.sleep(delay)
    code = server.end(sig)
    for t in readers:
        t.join(10)
        assert not t.is_alive()
    return [stream_text(d)[1] for d in data], code


def test_a_signal_under_load_ends_every_stream_in_words(log):
    rng = random.Random(3)
    for i in range(20):
        with Server(log, *CONTEXT, "--parallel", 4) as server:
            requests = [body(rng.choice((1, 50, 300)), n=rng.choice((1, 300)), seed=k, stream=True) for k in range(8)]
            ends, code = ended_streams(server, requests, rng.random() * 0.3, (signal.SIGTERM, signal.SIGINT)[i % 2])
            assert code == 0, server.log()
            assert set(ends) <= {"done", "error"}, (i, ends)


def test_streams_that_would_not_end_are_told_why(log):
    with Server(log, *CONTEXT, "--parallel", 2, "--speculate", "off") as server:
        ends, code = ended_streams(server, [body(LONG, seed=i, stream=True) for i in range(3)], 0.5, signal.SIGTERM)  # one waits
        assert (ends, code) == (["error"] * 3, 0), server.log()


def test_a_disk_that_hangs_does_not_hold_up_the_end(log, tmp_path, alone):
    """A rename takes a minute; the cache's entries come into their place by one."""
    calls = "renameat,renameat2"
    wrapper = ("strace", "-f", "-qq", "-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter=60000000", "-o", tmp_path / "trace")
    if not shutil.which("strace") or subprocess.run([*wrapper, "true"], capture_output=True).returncode != 0:
        pytest.skip("no strace, or it is not permitted")
    with Server(log, *CONTEXT, "--cache-dir", tmp_path / "cache", wrapper=wrapper) as server:
        request, expected = alone[0]
        assert server.complete(request) == expected
        wait_until(lambda: list((tmp_path / "cache").rglob("*.part")), 10, server.log)
        child = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0]
        status = pathlib.Path(f"/proc/{child}/status")
        os.kill(int(child), signal.SIGTERM)
        # By what is left of it: strace itself sees the minute through.
        gone = lambda: not status.exists() or "State:\tZ" in status.read_text()
        assert wait_until(gone, 12, server.log) > 5, "it has not waited for the disk"
        assert len(notes(server, "bytes are left unwritten")) == 1, server.log()


# -- files and limits


def last_line(server):
    return server.log().splitlines()[-1]


def test_a_model_file_that_is_cut_ends_the_server_in_words(log, tmp_path):
    model = tmp_path / "model.gguf"
    shutil.copy(MODEL, model)
    with Server(log, *CONTEXT, "--parallel", 2, models=(model,)) as server:
        running = server.open(body(LONG, stream=True))
        begun = read_some(running)
        os.truncate(model, 4096)
        s = server.open(body(50, n=2000, seed=8, stream=True))
        answer = read_rest(s)
        # It reads a row that is gone, or comes after that was seen.
        assert b"503 Service" in answer[:40] or stream_text(answer)[1] == "error", answer[:300]
        assert stream_text(begun + read_rest(running))[1] == "error"
        assert server.process.wait(10) == 70, server.log()
        assert last_line(server).startswith("quern: ") and str(model) in last_line(server), server.log()


def write_into(model):
    with open(model, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")


def test_a_model_file_that_is_written_into_ends_the_server_in_words(log, tmp_path):
    model = tmp_path / "model.gguf"
    shutil.copy(MODEL, model)
    with Server(log, *CONTEXT, models=(model,)) as server:
        s = server.open(body(LONG, stream=True))
        begun = read_some(s)
        write_into(model)
        assert stream_text(begun + read_rest(s))[1] == "error"
        assert server.process.wait(10) == 70, server.log()
        assert last_line(server).startswith(f"quern: {model}: changed while it is served"), server.log()


def test_a_model_file_that_is_written_into_is_no_matter_of_other_models(log, tmp_path, alone):
    models = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for m in models:
        shutil.copy(MODEL, m)
    with Server(log, *CONTEXT, models=models) as server:
        request, expected = alone[0]
        for name in ("one", "two"):
            assert server.complete({**request, "model": name}) == expected
        write_into(models[1])
        wait_until(lambda: server.request("POST", COMPLETIONS, {**request, "model": "two"})[0] == 503, 5, server.log)
        assert server.complete({**request, "model": "one"}) == expected
        wait_until(lambda: server.request("GET", "/v1/models")[1].count('"loaded":true') == 1, 5, server.log)
        assert server.get("/health")[0] == 200
        assert server.end() == 0
        assert len(notes(server, "two.gguf: changed")) == 1, server.log()


def test_a_model_file_that_is_renamed_over_is_no_matter(log, tmp_path, alone):
    model = tmp_path / "model.gguf"
    shutil.copy(MODEL, model)
    with Server(log, *CONTEXT, models=(model,)) as server:
        (tmp_path / "other").write_bytes(b"something else")
        os.replace(tmp_path / "other", model)
        for request, expected in alone:
            assert server.complete(request) == expected
        assert server.end() == 0


def needs_landlock(server):
    if "sandbox: landlock" not in server.log():
        pytest.skip("this kernel keeps no file shut")


def ask(server, model):
    return server.request("POST", COMPLETIONS, body(4, model=model))[0]


def test_a_model_file_that_is_renamed_over_before_it_is_loaded_stays_shut(log, tmp_path, alone):
    model, new = tmp_path / "model.gguf", tmp_path / "new"
    shutil.copy(MODEL, model)
    with Server(log, *CONTEXT, models=(MODEL, model)) as server:
        needs_landlock(server)
        shutil.copy(MODEL, new)
        os.replace(new, model)
        for _ in range(2):
            assert ask(server, "model") == 500
            card = json.loads(server.get("/v1/models")[1])["data"][1]
            assert card["id"] == "model" and card["meta"]["architecture"] == ""
        wait_until(lambda: notes(server, str(model)), 5, server.log)
        request, expected = alone[0]
        assert server.complete({**request, "model": "model.Q4_0"}) == expected
        assert server.end() == 0
        (told,) = notes(server, str(model))
        assert re.search(r"replaced .* sandbox .* restart the server \(.*model\.gguf: .*Permission denied\)$", told), told
    with Server(log, *CONTEXT, "--no-sandbox", models=(MODEL, model)) as server:
        shutil.copy(MODEL, new)
        os.replace(new, model)
        assert server.complete({**request, "model": "model"}) == expected
        assert not notes(server, str(model))


@pytest.mark.parametrize("options", [("--memory-budget", "300K"), ("--memory-budget", "8M", "--ctx", "100000")])
def test_a_memory_budget_that_is_too_small_is_told_in_numbers(log, options):
    with Server(log, *options, wait=False) as server:
        assert server.process.wait(20) == 1
        last = server.log().splitlines()[-1]
        assert last.startswith("quern: ") and re.search(r"\d+ MiB|\d+ bytes", last), last


def test_models_share_a_budget_in_turns(log, tmp_path, alone):
    """Each fits alone; asked in turns both answer every time."""
    models = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for m in models:
        shutil.copy(MODEL, m)
    with Server(log, "--memory-budget", "6M", "--ctx", "2000", models=models) as server:
        request, expected = alone[0]
        loaded = set()
        for i in range(20):
            assert server.complete({**request, "model": ("one", "two")[i % 2]}) == expected
            loaded.add(server.request("GET", "/v1/models")[1].count('"loaded":true'))
        assert loaded == {1}
        assert server.metrics()["quern_requests_total"] == 20
        assert server.end() == 0


def sockets_of(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")]


@pytest.mark.parametrize("named", [".", "", "config.json", "model.safetensors"])
def test_a_folder_is_read_inside_the_sandbox_whatever_names_it(log, tmp_path, named):
    folder, door = tmp_path / "folder", tmp_path / "door.gguf"
    shutil.copytree(ROOT / "tests/data/models/qwen3-tied/hf", folder)
    shutil.copy(MODEL, door)
    with Server(log, models=(MODEL, f"{folder}/{named}", door)) as server:
        card = json.loads(server.get("/v1/models")[1])["data"][1]
        assert card["id"] == "folder"
        assert card["meta"]["architecture"] == "qwen3" and not card["meta"]["loaded"]
        assert server.complete(body(4, model=card["id"]))
        needs_landlock(server)
        shutil.copy(MODEL, tmp_path / "elsewhere.gguf")
        assert through(server, door, tmp_path / "elsewhere.gguf") == 500


def through(server, door, path):
    """The status of a request for the model of the GGUF file `door`, whose name now leads to another file."""
    (door.parent / "link").symlink_to(path)
    os.replace(door.parent / "link", door)
    return ask(server, door.stem)


@pytest.mark.parametrize("named,status", [("notes.json", 500), ("tokenizer.json", 500), ("weights.safetensors", 500), ("config.json", 200)])
def test_only_a_file_of_a_model_folder_opens_what_lies_beside_it(log, tmp_path, named, status):
    folder, door = tmp_path / "folder", tmp_path / "door.gguf"
    folder.mkdir()
    (folder / named).write_text("{}")
    for path in (door, folder / "beside.gguf"):
        shutil.copy(MODEL, path)
    with Server(log, models=(MODEL, door, folder / named)) as server:
        needs_landlock(server)
        assert through(server, door, folder / "beside.gguf") == status
        assert server.end() == 0
        assert bool(notes(server, "sandbox keeps it shut")) == (status == 500), server.log()


def refused(log, *models):
    """The line with which a server does not start."""
    with Server(log, models=models, wait=False) as server:
        assert server.process.wait(20) == 1
        (line,) = server.log().splitlines()
        return line


@pytest.mark.parametrize("options", [(), ("--no-sandbox",)])
@pytest.mark.parametrize("named", ["", "/", "/."])
def test_a_folder_that_is_no_model_is_refused_at_the_start(log, tmp_path, named, options):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(MODEL, folder / "beside.gguf")
    line = refused(log, MODEL, f"{folder}{named}", *options)
    assert line == f"quern: {folder}{named}: expected a .gguf file or a model folder with config.json, found a folder without"
    (folder / "config.json").mkdir()
    assert "found a folder without" in refused(log, MODEL, f"{folder}{named}", *options)


def split(model, folder):
    """A GGUF file as the first of two parts, of which the second holds no tensor."""
    def pair(key, kind, value):
        return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value

    def pairs(number):
        out = b"".join(pair(key, 4, struct.pack("<I", n)) for key, n in ((b"split.no", number), (b"split.count", 2)))
        out += pair(b"filler", 8, struct.pack("<Q", 0))
        return out[:-8] + struct.pack("<Q", -len(out) % 32) + bytes(-len(out) % 32)  # so that the data stay aligned
    magic, version, tensors, keys = struct.unpack("<4sIQQ", (data := model.read_bytes())[:24])
    parts = [folder / f"model-0000{i}-of-00002.gguf" for i in (1, 2)]
    parts[0].write_bytes(struct.pack("<4sIQQ", magic, version, tensors, keys + 3) + pairs(0) + data[24:])
    parts[1].write_bytes(struct.pack("<4sIQQ", magic, version, 0, 3) + pairs(1))
    return parts


@pytest.mark.parametrize("named", [0, 1])
def test_all_parts_of_a_split_file_are_read_inside_the_sandbox(log, tmp_path, named):
    parts = split(MODEL, tmp_path)
    with Server(log, models=(MODEL, parts[named])) as server:
        assert [card["id"] for card in json.loads(server.get("/v1/models")[1])["data"]] == ["model.Q4_0", "model"]
        assert ask(server, "model") == 200, server.log()
        needs_landlock(server)


def test_a_model_is_served_once_whatever_names_it(log, tmp_path):
    folder, parts = tmp_path / "folder", split(MODEL, tmp_path)
    shutil.copytree(ROOT / "tests/data/models/qwen3-tied/hf", folder)
    (tmp_path / "link").symlink_to(folder)
    for first, second in ((folder, folder / "config.json"), (folder / "model.safetensors", tmp_path / "link"), (MODEL, MODEL),
                          tuple(parts), (tmp_path / "link", f"{folder}/")):
        assert refused(log, first, second) == f"quern: {second}: expected each model once, found it twice"


def test_models_of_the_same_name_are_told_apart_by_their_paths(log, tmp_path):
    for name in "one", "two":
        (tmp_path / name).mkdir()
        shutil.copy(MODEL, tmp_path / name / "model.gguf")
    shutil.copytree(ROOT / "tests/data/models/qwen3-tied/hf", tmp_path / "model")
    models = tmp_path / "one/model.gguf", tmp_path / "two/model.gguf", "model"
    with Server(log, models=models, cwd=tmp_path) as server:
        cards = json.loads(server.get("/v1/models")[1])["data"]
        assert [card["id"] for card in cards] == ["model", str(models[1]), str(tmp_path.resolve() / "model")]
        for card in cards:
            assert ask(server, card["id"]) == 200, server.log()


def test_it_makes_no_connection(log, tmp_path, alone):
    trace = tmp_path / "trace"
    wrapper = ("strace", "-f", "-qq", "-e", "trace=socket,connect,sendto,sendmsg,bind", "-o", trace) if shutil.which("strace") else ()
    if wrapper and subprocess.run([*wrapper, "true"], capture_output=True).returncode != 0:
        pytest.skip("tracing is not permitted")
    if not wrapper:
        pytest.skip("no strace")
    with Server(log, *CONTEXT, "--cache-dir", tmp_path / "cache", "--store-dir", tmp_path / "store", wrapper=wrapper) as server:
        request, expected = alone[0]
        assert server.complete(request) == expected
        pid = int(re.match(r"\d+", trace.read_text())[0])
        os.kill(pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
    calls = re.findall(r"^\d+ +(\w+)\((.*)$", trace.read_text(), re.M)
    families = [arguments.split(",")[0] for name, arguments in calls if name == "socket"]
    assert families == ["AF_INET"], calls
    assert not [c for c in calls if c[0] == "connect"]
    assert all("127.0.0.1" in arguments for name, arguments in calls if name == "bind")


def close_input():
    os.close(0)


def close_errors():
    os.close(2)


def close_all():
    for fd in (0, 1, 2):
        os.close(fd)


@pytest.mark.parametrize("closed", [close_input, close_errors, close_all])
def test_closed_standard_files_are_no_matter(log, tmp_path, alone, closed):
    with Server(log, *CONTEXT, "--cache-dir", tmp_path / "cache", port=free_port(), preexec_fn=closed) as server:
        for request, expected in alone:
            assert server.complete(request) == expected
        assert server.end() == 0
    with Server(log, *CONTEXT, "--cache-dir", tmp_path / "cache") as server:
        use_cache(server, alone)


@pytest.mark.parametrize("errors", ["/dev/full", "a pipe without a reader"])
def test_a_log_that_cannot_be_written_is_no_matter(log, alone, errors):
    if errors == "/dev/full":
        out = os.open(errors, os.O_WRONLY)
    else:
        reader, out = os.pipe()
        os.close(reader)
    try:
        with Server(log, *CONTEXT, port=free_port(), stderr=out) as server:
            request, expected = alone[0]
            assert server.complete(request) == expected
            assert server.end() == 0
    finally:
        os.close(out)
