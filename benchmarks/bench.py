"""The same `print("Hello, World!")` four ways in one run, interleaved: bare Python; eval, exec/sync and an
eval with the network (where the server can give it) over HTTP.

    make bench

Prints p50 and p95 of 200 sequential runs each, runs per second with 8 clients, and the ratios to bare Python, which is
what to read: these figures come from whatever machine this is. The interpreter is the same for all.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from python_executor.environments.interpreters import find_interpreters

CODE = 'print("Hello, World!")\n'
EXPECTED = "Hello, World!\n"
SEQUENTIAL, CLIENTS, THROUGHPUT_SECONDS = 200, 8, 4.0
BOUNDARY = "bench"

Run = Callable[[], None]


class Server:
    """A server of our own on a free port."""

    def __init__(self, directory: Path, version: str) -> None:
        command = [sys.executable, "-m", "python_executor", "serve", "--port", "0", "--data-dir", str(directory)]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYEXEC_")}
        env |= {"PYEXEC_DEFAULT_PYTHON": version, "PYEXEC_DEFAULT_IMAGE": f"python:{version}-slim"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = urlsplit(line.split()[-1]).netloc

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()


def over_http(address: str, path: str, body: bytes, content_type: str) -> Run:
    """One connection that is kept; each call posts the same request and checks the answer."""
    connection = http.client.HTTPConnection(address)
    headers = {"Content-Type": content_type}

    def run() -> None:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200 and answer["stdout"] == EXPECTED, answer

    return run


def eval_request(address: str, **config: object) -> Run:
    return over_http(address, "/api/v1/eval", json.dumps({"code": CODE, "config": config}).encode(), "application/json")


def can_give_network(address: str) -> bool:
    try:
        eval_request(address, network_disabled=False)()
    except AssertionError:
        return False
    return True


def exec_request(address: str) -> Run:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("main.py")
        member.size = len(CODE)
        tar.addfile(member, io.BytesIO(CODE.encode()))
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    body = part.format("tar", '; filename="code.tar"').encode() + archive.getvalue() + b"\r\n"
    body += part.format("metadata", "").encode() + b'{"entrypoint": "main.py"}\r\n' + f"--{BOUNDARY}--\r\n".encode()
    return over_http(address, "/api/v1/exec/sync", body, f"multipart/form-data; boundary={BOUNDARY}")


def bare(executable: str, script: Path) -> Run:
    def run() -> None:
        done = subprocess.run([executable, str(script)], capture_output=True, text=True, check=True)
        assert done.stdout == EXPECTED

    return run


def sequential(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Milliseconds of each run, the ways taking turns, so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(SEQUENTIAL + 10):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 10:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def throughput(make_run: Callable[[], Run]) -> float:
    """Runs per second with all clients at work."""
    counts = [0] * CLIENTS
    end = time.perf_counter() + THROUGHPUT_SECONDS

    def client(number: int) -> None:
        run = make_run()
        while time.perf_counter() < end:
            run()
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    interpreter = find_interpreters()[0]
    for candidate in find_interpreters():
        if candidate.minor_version == "3.12":
            interpreter = candidate
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "main.py")
        script.write_text(CODE)
        server = Server(Path(directory, "data"), interpreter.minor_version)
        try:
            ways: dict[str, Callable[[], Run]] = {
                "bare python main.py": lambda: bare(interpreter.executable, script),
                "POST /api/v1/eval": lambda: eval_request(server.address),
                "POST /api/v1/exec/sync": lambda: exec_request(server.address),
            }
            if can_give_network(server.address):
                ways["eval with network"] = lambda: eval_request(server.address, network_disabled=False)
            times = sequential({name: make() for name, make in ways.items()})
            rates = {name: throughput(make) for name, make in ways.items()}
        finally:
            server.stop()
    report(interpreter.version, times, rates)


def report(version: str, times: dict[str, list[float]], rates: dict[str, float]) -> None:
    title = f"Python {version}, Linux {platform.release()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    table = Table("what", "p50 ms", "p95 ms", "p50 / bare", f"runs/s, {CLIENTS} clients", "runs/s / bare", title=title)
    bare_time, bare_rate = median(times["bare python main.py"]), rates["bare python main.py"]
    for name, values in times.items():
        p50, p95, rate = median(values), quantiles(values, n=20)[-1], rates[name]
        table.add_row(
            name, f"{p50:.2f}", f"{p95:.2f}", f"{p50 / bare_time:.2f}", f"{rate:.0f}", f"{rate / bare_rate:.2f}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
