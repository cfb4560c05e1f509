"""The ways that are compared: a process, `bwrap`, a container, and requests to a server of ours.

All do the same work with the same interpreter. Processes get this one's environment without its PYTHON* variables, and
stderr in a file that is shown if they fail.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from cpu import counting_children
from load import Run, Way, sentence, why_not
from server import Server

from python_executor.model.spec import Interpreter

CODE, EXPECTED = 'print("Hello, World!")\n', b"Hello, World!\n"
BARE, BWRAP, DOCKER = "bare `python main.py`", "`bwrap` + `python main.py`", "`docker run --network none`"
EVAL, EXEC = "`POST /api/v1/eval`", "`POST /api/v1/exec/sync`"
EXPRESSION, COLD, NETWORK = "eval of `2+2`", "eval, no sandbox waits", "eval with network"
NAMES = (BARE, BWRAP, DOCKER, EVAL, EXPRESSION, EXEC, COLD, NETWORK)
DOCKER_EVERY, NETWORK_EVERY = 10, 5  # turns
CHUNK = 1 << 16
BOUNDARY = b"benchmark"
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYEXEC_"))}


def process(command: Sequence[str]) -> Run:
    """Starts it, reads its stdout to the end and waits for it."""
    path = shutil.which(command[0]) or command[0]
    argv = list(command)
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the client lives

    def run() -> bytes:
        output, its_stdout = os.pipe()
        redirect = [(os.POSIX_SPAWN_DUP2, its_stdout, 1), (os.POSIX_SPAWN_DUP2, stderr.fileno(), 2)]
        pid = os.posix_spawn(path, argv, ENVIRONMENT, file_actions=redirect)
        os.close(its_stdout)
        parts = []
        while part := os.read(output, CHUNK):
            parts.append(part)
        os.close(output)
        _, status = os.waitpid(pid, 0)
        if status:
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").strip()
            raise ChildProcessError(f"it ended with {os.waitstatus_to_exitcode(status)}: {said[-1000:]}")
        return b"".join(parts)

    return run


def post(address: str, path: str, body: bytes, content_type: str = "application/json") -> Run:
    """Sends the same bytes each time, on a connection that is kept, and reads the whole answer."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body

    def receive(size: int) -> bytes:
        part = connection.recv(size)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part

    def run() -> bytes:
        connection.sendall(request)
        answer = receive(CHUNK)
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += receive(CHUNK)
        length = CONTENT_LENGTH.search(answer, 0, end)
        assert length, answer
        missing = end + 4 + int(length[1]) - len(answer)
        parts = [answer]
        while missing > 0:
            parts.append(receive(min(missing, 16 * CHUNK)))
            missing -= len(parts[-1])
        return b"".join(parts)

    return run


def eval_body(code: str = "", **fields: object) -> bytes:
    return json.dumps({"code": code, **fields}).encode()


def exec_body(files: Mapping[str, bytes]) -> bytes:
    """An upload of an archive, whose main.py is to be run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    part = b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    parts = part % (BOUNDARY, b"tar", b'; filename="code.tar"', archive.getvalue())
    return parts + part % (BOUNDARY, b"metadata", b"", b'{"entrypoint": "main.py"}') + b"--%s--\r\n" % BOUNDARY


def in_result(stdout: bytes, result: str | None = None) -> bytes:
    """What an answer has to hold, from the status to the exit code and the value."""
    text = json.dumps(stdout.decode())
    value = json.dumps(result)
    return (
        f'"status":"completed","stdout":{text},"stderr":"","exit_code":0,'
        f'"error":null,"error_type":null,"error_line":null,"result":{value}'
    ).encode()


def bare(interpreter: Interpreter, script: Path, expected: bytes = EXPECTED, name: str = BARE) -> Way:
    command = [interpreter.executable, str(script)]
    return Way(name, lambda: process(command), expected, counting=counting_children)


def bwrap(interpreter: Interpreter, script: Path) -> Way | str:
    """Debian's bubblewrap around it; a sentence where there is none, or where it can't."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]
    for directory in ("/usr", "/lib", "/lib32", "/lib64", interpreter.prefix):
        command += ["--ro-bind-try", directory, directory]
    command += ["--ro-bind", str(script), "/main.py", interpreter.executable, "/main.py"]
    if shutil.which("bwrap") is None:
        return "not installed here"
    way = Way(BWRAP, lambda: process(command), EXPECTED, counting=counting_children)
    failure = why_not(way)
    return way if failure is None else f"does not work here: {failure}"


def evaluated(server: Server, body: bytes, expected: bytes, name: str, every: int = 1) -> Way:
    return Way(name, lambda: post(server.address, "/api/v1/eval", body), expected, every, server.counting)


def executed(server: Server, files: Mapping[str, bytes], expected: bytes, name: str) -> Way:
    body, content_type = exec_body(files), f"multipart/form-data; boundary={BOUNDARY.decode()}"
    client = partial(post, server.address, "/api/v1/exec/sync", body, content_type)
    return Way(name, client, expected, counting=server.counting)


def requests(warm: Server, cold: Server) -> list[Way]:
    """What a server of ours is asked; `cold` makes each sandbox when asked for it."""
    hello = in_result(EXPECTED)
    expression = eval_body("2+2", eval_last_expr=True)
    return [
        evaluated(warm, eval_body(CODE), hello, EVAL),
        evaluated(warm, expression, in_result(b"", "4"), EXPRESSION),
        executed(warm, {"main.py": CODE.encode()}, hello, EXEC),
        evaluated(cold, eval_body(CODE), hello, COLD),
    ]


def network(warm: Server) -> Way | str:
    """An eval that may use the network; the server's own sentence where it can't give it."""
    body = eval_body(CODE, config={"network_disabled": False})
    way = evaluated(warm, body, in_result(EXPECTED), NETWORK, NETWORK_EVERY)
    answer = way.client()()
    if way.expected in answer:
        return way
    _, _, content = answer.partition(b"\r\n\r\n")
    return f"not given here: {sentence(json.loads(content).get('error'))}"


def version_of(*command: str) -> str | None:
    """What a program says of its version, in one line; None where it is not there or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return " ".join(done.stdout.split())
