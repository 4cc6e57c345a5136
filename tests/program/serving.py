# SPDX-License-Identifier: Apache-2.0
"""A server of the built program for tests to be unkind to: started, asked, looked at from outside, ended."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUERN = os.environ.get("QUERN", str(ROOT / "build/release/quern"))
MODEL = ROOT / "tests/data/models/quant-llama/model.Q4_0.gguf"
COMPLETIONS = "/v1/completions"
IDS = 150  # ids below it are ordinary tokens of MODEL


def prompt(n, seed=0):
    """n ids; prompts of different seeds share no block of 64."""
    return [(7 * i + i // 13 + 31 * seed) % IDS for i in range(n)]


def body(tokens, n=40, seed=0, **fields):
    """A greedy completion of `tokens` tokens after a prompt of n."""
    return {"prompt": prompt(n, seed), "max_tokens": tokens, "ignore_eos": True, "temperature": 0, **fields}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds, what):
    """The seconds it took."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < seconds, f"after {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return time.monotonic() - begin


class Server:
    """`quern serve MODEL OPTIONS` on a port of its own; ends with the `with` block."""

    def __init__(self, log, *options, models=(MODEL,), port=0, wrapper=(), wait=True, **popen):
        self.log_path, self.port = log, port
        command = [*wrapper, QUERN, "serve", *map(str, models), "--port", str(port), "--threads", "2", *map(str, options)]
        with open(log, "wb") as out:
            arguments = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out)
            self.process = subprocess.Popen(command, **{**arguments, **popen})
        if wait:
            self.wait_for_start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def wait_for_start(self, seconds=30):
        """By its own line, or where that cannot be read by its port."""
        def listens():
            if self.process.poll() is not None:
                return True
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.log()):
                self.port = int(found[1])
                return True
            return False

        def answers():
            with contextlib.suppress(OSError):
                return self.get("/health")[0] == 200
        wait_until(answers if self.port else listens, seconds, self.log)
        assert self.process.poll() is None, f"exit {self.process.returncode}: {self.log()}"

    def log(self):
        return self.log_path.read_text(errors="replace")

    # -- asking
    def request(self, method, path, content=None, timeout=60):
        """(status, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if content is None else json.dumps(content), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path, timeout=10)

    def complete(self, content, timeout=60):
        """The text of a completion that is not streamed."""
        status, text = self.request("POST", COMPLETIONS, content, timeout)
        assert status == 200, text[:300]
        return json.loads(text)["choices"][0]["text"]

    def open(self, content, receive_bytes=None):
        """A connection with a request on its way; read what you like."""
        return self.send(self.raw(content), receive_bytes)

    def raw(self, content, connection="close"):
        data = json.dumps(content).encode()
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost:{self.port}\r\nContent-Type: application/json\r\nConnection: {connection}\r\n"
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    def send(self, data, receive_bytes=None):
        s = socket.socket()
        if receive_bytes:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        s.settimeout(60)
        s.connect(("127.0.0.1", self.port))
        s.sendall(data)
        return s

    def metrics(self):
        """By name; of several models the sum."""
        found = {}
        for name, value in re.findall(r"^(quern_\w+)\{[^}]*\} (\S+)$", self.get("/metrics")[1], re.M):
            found[name] = found.get(name, 0) + float(value)
        return found

    def wait_for(self, seconds=10, **facts):
        """Until these metrics (without `quern_`) are reached, or 0 for 0; the seconds it took."""
        now = {}

        def there():
            now.update(self.metrics())
            return all(now["quern_" + k] >= v if v else now["quern_" + k] == 0 for k, v in facts.items())
        return wait_until(there, seconds, lambda: {k: now["quern_" + k] for k in facts})

    def wait_until_idle(self, seconds=3):
        return self.wait_for(seconds, requests_running=0, requests_waiting=0, kv_pages_active=0)

    # -- the process
    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self, sig=signal.SIGTERM, timeout=12):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(timeout)


def read_some(s, at_least=1):
    data = b""
    while len(data) < at_least and (piece := s.recv(65536)):
        data += piece
    return data


def read_rest(s):
    """Until the peer closes or resets."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := s.recv(1 << 20):
            data += piece
    return data


def disconnect(s, reset):
    """By RST, or by FIN."""
    if reset:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def stream_text(data):
    """(text, how it ended): of the bytes of an answer in chunks. Ends: "done", "error", "cut"."""
    text, end = "", "cut"
    for frame in unchunked(data).split(b"\n\n")[:-1]:
        event = frame.decode()
        assert event.startswith("data: "), event
        if event == "data: [DONE]":
            end = "done"
            continue
        event = json.loads(event[6:])
        if "error" in event:
            end = "error"
        else:
            text += "".join(c["text"] for c in event["choices"])
    return text, end


def unchunked(data):
    rest, out = data.partition(b"\r\n\r\n")[2], b""
    while m := re.match(rb"([0-9a-fA-F]+)\r\n", rest):
        size = int(m[1], 16)
        out += rest[m.end():m.end() + size]
        rest = rest[m.end() + size + 2:]
    return out


def readable(s, seconds=0):
    return bool(select.select([s], [], [], seconds)[0])
