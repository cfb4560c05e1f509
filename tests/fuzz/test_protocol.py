"""What passes between server, zygote and sandbox, with every kind of liar at the other end."""

from __future__ import annotations

import array
import asyncio
import itertools
import marshal
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from python_executor.api.server import new_event_loop
from python_executor.guest import frames
from python_executor.model.egress import EgressPolicy
from python_executor.model.errors import BackendError
from python_executor.model.events import Raised, Result, Usage
from python_executor.model.spec import (
    DirectoryEntry,
    ExecutionSpec,
    FileEntry,
    FileTree,
    Interpreter,
    Limits,
    SymlinkEntry,
)
from python_executor.sandboxes.native.box import Box
from python_executor.sandboxes.native.feed import Feed
from python_executor.sandboxes.native.identities import Identities
from python_executor.sandboxes.native.pipes import Pipes
from python_executor.sandboxes.native.sandbox import NativeSandbox
from python_executor.sandboxes.processors import Processors
from python_executor.sandboxes.report import ReportReader
from tests.fuzz.conftest import Bytes, bounded

MOST_BUFFERED = frames.FRAME_HEADER.size + 1 + frames.RESULT_MAX  # a frame of the longest kind
SECONDS = 10.0
sizes = st.lists(st.integers(1, 60) | st.sampled_from([1, 4, 5, 4096, 1 << 16]), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that the server has."""
    loop = new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _a_box() -> Box:
    """One that was never started."""
    python = Interpreter("3.12.1", "/python", "/")
    return Box(python, Identities(1000, 1), 256, EgressPolicy(), (), lambda cgroup: None, Processors(None))


@contextmanager
def _a_sandbox(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[NativeSandbox, Pipes]]:
    """The server's end of a sandbox that is nothing but its pipes; a pipe stands for its pidfd, too."""
    pipes = Pipes()
    pidfd, other_end = os.pipe()

    async def make() -> NativeSandbox:
        return NativeSandbox(_a_box(), 1, 0, pipes, pidfd, None, 0)

    try:
        yield loop.run_until_complete(make()), pipes
    finally:
        loop.remove_reader(pidfd)
        for fd in (pidfd, other_end):
            os.close(fd)
        pipes.close()


# --- from user code: the report pipe ----------------------------------------------------------------------------------

KINDS = st.sampled_from([frames.RESULT, frames.RAISED, frames.EXIT])
payloads = st.binary(max_size=12) | st.sampled_from([b"", b"\0", b"\xff", bytes(4), b"\0\xed\xa0\x80", bytes(4 + 256)])
some_frames = st.one_of(
    st.builds(frames.frame, KINDS, payloads),
    st.builds(frames.frame, KINDS, payloads),
    st.builds(lambda line, name: frames.frame(frames.RAISED, line + name), st.binary(min_size=4, max_size=4), payloads),
    st.builds(lambda code: frames.frame(frames.EXIT, bytes([code])), st.integers(0, 255)),
    st.builds(frames.FRAME_HEADER.pack, st.integers(0, 255), st.integers(0, 2**32 - 1)),
    st.builds(
        lambda kind, size: frames.frame(kind, b"\1" * size),
        KINDS,
        st.sampled_from([257, 260, 261] * 10 + [frames.RESULT_MAX + 1, frames.RESULT_MAX + 2]),
    ),
    st.binary(max_size=8),
)
reports = st.lists(some_frames, max_size=6).map(lambda parts: Bytes(b"".join(parts)))


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes; a long one goes on in pieces as large as a pipe is read in."""
    start = 0
    for size in itertools.chain(sizes * 20, itertools.repeat(1 << 16)):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


def _feed(data: bytes, sizes: list[int]) -> ReportReader:
    reader = ReportReader()
    for piece in _pieces(data, sizes):
        had_ended = reader.exit_code is not None
        assert reader.feed(piece) == (reader.exit_code is not None)
        assert not had_ended or reader.exit_code is not None
        assert len(reader._buffer) <= max(MOST_BUFFERED, len(piece))
    return reader


def _understood(data: bytes) -> tuple[list[Result | Raised], int | None]:
    """What a report means, by the words of `guest/frames.py` and in the plainest way."""
    said: dict[int, Result | Raised] = {}
    while len(data) >= frames.FRAME_HEADER.size:
        kind, length = frames.FRAME_HEADER.unpack_from(data)
        payload, data = data[frames.FRAME_HEADER.size :][:length], data[frames.FRAME_HEADER.size + length :]
        bounds = {frames.RESULT: (1, 1 + frames.RESULT_MAX), frames.RAISED: (4, 4 + frames.NAME_MAX)}
        least, most = bounds.get(kind, (1, 1))
        if kind not in (*bounds, frames.EXIT) or not least <= length <= most or kind in said or len(payload) < length:
            break
        if kind == frames.EXIT:
            return [said[kind] for kind in sorted(said)], payload[0]
        if kind == frames.RESULT:
            said[kind] = Result(payload[1:].decode(errors="replace"), truncated=payload[0] != 0)
        else:
            said[kind] = Raised(payload[4:].decode(errors="replace"), int.from_bytes(payload[:4], "big") or None)
    return [said[kind] for kind in sorted(said)], None


@bounded(500)
@given(reports | st.binary(max_size=60), sizes)
def test_any_report_in_any_pieces_means_what_it_means_in_one(data: bytes, sizes: list[int]) -> None:
    expected = _understood(data)
    for reader in (_feed(data, [1 << 30]), _feed(data, sizes)):
        assert (reader.events, reader.exit_code) == expected
        assert [type(event) for event in reader.events] in ([], [Result], [Raised], [Result, Raised])
        assert reader.exit_code is None or 0 <= reader.exit_code <= 255
        for event in reader.events:
            (event.text if isinstance(event, Result) else event.error_type).encode()  # can be sent on as UTF-8


# --- from the server: a spec ------------------------------------------------------------------------------------------


class Gone(BaseException):
    """The guest's end, in place of the process's."""


class Dribble(socket.socket):
    """A socket that gives no more at a time than it is told to, and remembers which descriptors came."""

    sizes: Iterator[int]
    came: list[int]

    @classmethod
    def over(cls, other: socket.socket | Pipes, sizes: list[int]) -> Dribble:
        """The guest's end."""
        guest_end = other._guest_control if isinstance(other, Pipes) else other
        self = cls(fileno=os.dup(guest_end.fileno()))
        self.settimeout(SECONDS)
        self.sizes = itertools.chain(sizes * 50, itertools.repeat(1 << 20))
        self.came = []
        return self

    def recvmsg(self, size: int, *rest: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        data, ancillary, flags, address = super().recvmsg(min(size, next(self.sizes)), *rest)
        for _, _, packed in ancillary:
            self.came.extend(array.array("i", packed))
        return data, ancillary, flags, address

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return super().recv_into(memoryview(buffer)[: next(self.sizes)], nbytes, flags)

    def close_what_came(self) -> None:
        """As the end of the process would."""
        for fd in self.came:
            os.close(fd)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
relative_paths = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=10), min_size=1, max_size=3
).map("/".join)
modes = st.integers(0, 0o777)


class Parts(NamedTuple):
    """A spec to be: the content becomes a file where it is to be sent as a descriptor."""

    spec: ExecutionSpec
    content: Bytes
    as_file: bool

    @contextmanager
    def finished(self) -> Iterator[ExecutionSpec]:
        """The spec, whose file lives as long as this context."""
        with tempfile.TemporaryFile() as file:
            file.write(self.content)
            file.flush()
            content: bytes | BinaryIO = file if self.as_file else bytes(self.content)
            yield replace(self.spec, tree=FileTree(self.spec.tree.entries, content))


@st.composite
def specs(draw: st.DrawFn, longest: int = 300_000) -> Parts:
    """Any spec that the server could send."""
    content = draw(st.binary(max_size=50) | st.sampled_from([b"", b"x" * 4096, b"y" * longest]))
    offsets = st.integers(0, len(content))
    entry = st.one_of(
        st.builds(FileEntry, relative_paths, modes, offsets, offsets),
        st.builds(DirectoryEntry, relative_paths, modes),
        st.builds(SymlinkEntry, relative_paths, texts),
    )
    names = texts.filter(lambda name: name and "=" not in name)
    spec = ExecutionSpec(
        tree=FileTree(tuple(draw(st.lists(entry, max_size=4))), b""),
        entrypoint=draw(relative_paths),
        python="3.12",
        limits=Limits(60, 256, 128, 1024),
        args=tuple(draw(st.lists(texts, max_size=3))),
        env=tuple(draw(st.dictionaries(names, texts, max_size=3)).items()),
        stdin=draw(st.binary(max_size=50) | st.sampled_from([b"", b"z" * longest])),
        pre_commands=tuple(draw(st.lists(texts, max_size=2))),
        eval_last_expr=draw(st.booleans()),
    )
    return Parts(spec, Bytes(content), draw(st.booleans()))


async def _send(sandbox: NativeSandbox, spec: ExecutionSpec) -> Feed | None:
    feed = Feed(spec.stdin) if spec.stdin else None
    await sandbox._send(spec, None, feed)
    return feed


def _read_all(fd: int) -> bytes:
    """Standard input, to its end."""
    with os.fdopen(fd, "rb", closefd=False) as file:
        return file.read()


def _everything(content: Any, length: int) -> bytes:
    """All bytes of the content, the way a file gets them."""
    with tempfile.TemporaryFile() as file:
        content.copy(0, length, file.fileno())
        file.seek(0)
        return file.read()


def test_a_spec_arrives_as_it_was_sent_whatever_its_content_is_and_however_it_is_cut(
    guest: dict[str, ModuleType], loop: asyncio.AbstractEventLoop
) -> None:
    async def pass_on(sandbox: NativeSandbox, spec: ExecutionSpec, control: Dribble) -> tuple[dict[str, Any], Any]:
        receiving = loop.run_in_executor(None, guest["intake"].receive, guest["intake"].Control(control))
        feed, _ = await asyncio.wait_for(asyncio.gather(_send(sandbox, spec), receiving), SECONDS)
        received, content = receiving.result()
        stdin = await asyncio.to_thread(_read_all, content.stdin) if spec.stdin else b""
        if feed is not None:
            feed.close()
        assert stdin == spec.stdin
        return received, content

    @bounded(120)
    @given(specs(), sizes)
    def check(parts: Parts, sizes: list[int]) -> None:
        with parts.finished() as spec, _a_sandbox(loop) as (sandbox, pipes), Dribble.over(pipes, sizes) as control:
            received, content = loop.run_until_complete(pass_on(sandbox, spec, control))
            try:
                assert received == marshal.loads(sandbox._message(spec)[frames.SPEC_LENGTH.size :])
                _check_meaning(received, spec)
                assert _everything(content, len(parts.content)) == parts.content
                assert len(control.came) == parts.as_file + bool(spec.stdin)
                control.setblocking(False)
                with pytest.raises(BlockingIOError):
                    control.recv(1)  # nothing is left over
            finally:
                control.close_what_came()

    check()


def _check_meaning(received: dict[str, Any], spec: ExecutionSpec) -> None:
    """The words that the guest looks for, with the values that were asked for."""
    assert received["entrypoint"] == spec.entrypoint
    assert tuple(received["args"]) == spec.args
    assert tuple(received["env"].items()) == spec.env
    assert tuple(received["pre_commands"]) == spec.pre_commands
    assert received["eval_last_expr"] is spec.eval_last_expr
    made = {"file": FileEntry, "directory": DirectoryEntry, "symlink": SymlinkEntry}
    assert tuple(made[kind](*fields) for kind, *fields in received["entries"]) == spec.tree.entries


def test_a_spec_that_is_cut_ends_the_guest_and_nothing_else(
    guest: dict[str, ModuleType], loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exit_instead(code: int) -> None:
        raise Gone(code)

    @bounded(150)
    @given(specs(longest=5000), sizes, st.floats(0, 1, exclude_max=True))
    @example(Parts(ExecutionSpec(FileTree((), b""), "m", "3.12", Limits(1, 1, 1, 1)), Bytes(), True), [1], 0.0)
    def check(parts: Parts, sizes: list[int], share: float) -> None:
        with ExitStack() as stack:
            data, fds = _sent(loop, parts, stack)
            ours, theirs = socket.socketpair()
            with theirs:
                control = stack.enter_context(Dribble.over(theirs, sizes))
            cut = data[: int(len(data) * share)]
            with ours:
                if cut:
                    socket.send_fds(ours, [cut], fds)
            try:
                with monkeypatch.context() as patch, pytest.raises(Gone) as gone:
                    patch.setattr(os, "_exit", exit_instead)
                    guest["intake"].receive(guest["intake"].Control(control))
                assert gone.value.args == (0,)
            finally:
                control.close_what_came()

    check()


def _sent(loop: asyncio.AbstractEventLoop, parts: Parts, stack: ExitStack) -> tuple[bytes, list[int]]:
    """All bytes of a small spec, and the descriptor that comes with the first."""
    with parts.finished() as spec, _a_sandbox(loop) as (sandbox, pipes):
        feed = loop.run_until_complete(_send(sandbox, spec))
        if feed is not None:
            feed.close()
        data, fds, _, _ = socket.recv_fds(pipes._guest_control, 1 << 20, 2)
        for fd in fds:
            stack.callback(os.close, fd)
        pipes.control.shutdown(socket.SHUT_WR)
        while more := pipes._guest_control.recv(1 << 20):
            data += more
    return data, fds


# --- from the zygote: packets -----------------------------------------------------------------------------------------

RUNNING, WANTED, STRANGE = 1, 2, 99  # numbers of sandboxes
FDS = ("pipe", "file", "ended", "alive")
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.builds(
        frames.EXITED_BODY.pack, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
    ),
    st.just(bytes(frames.PACKET_MAX - frames.HEADER.size)),
    st.just(bytes(frames.PACKET_MAX + 100)),  # more than is read
)
packets = st.one_of(
    st.builds(
        lambda kind, number, body: frames.HEADER.pack(kind, number) + body,
        st.integers(0, frames.EXITED + 1) | st.integers(0, 255),
        st.sampled_from([RUNNING, WANTED, STRANGE, 0, 2**64 - 1]),
        bodies,
    ),
    st.binary(max_size=20),
).map(Bytes)
conversations = st.lists(st.tuples(packets, st.lists(st.sampled_from(FDS), max_size=2)), max_size=5)


class Recorder:
    """A sandbox that only listens."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, Usage]] = []
        self.box_is_dead = False

    def user_process_ended(self, status: int, usage: Usage) -> None:
        """One of our children ended."""
        self.ends.append((status, usage))

    def box_died(self) -> None:
        """All did."""
        self.box_is_dead = True


class Zygote:
    """The far end of a box's control socket, which says what it likes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.failures: list[str] = []
        loop.set_exception_handler(lambda _, context: self.failures.append(repr(context.get("exception", context))))
        self.box = _a_box()
        self.recorder = Recorder()
        self.box._sandboxes[RUNNING] = self.recorder  # type: ignore[assignment]
        ours, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.end.setblocking(False)
        self.box._control = ours
        loop.add_reader(ours, self.box._receive)

    def send(self, packet: bytes, fds: list[int]) -> None:
        """Say it, unless the box has stopped listening, and let it be heard."""
        try:
            socket.send_fds(self.end, [packet], fds)
        except (BrokenPipeError, ConnectionResetError):
            assert not self.box.is_alive
        for _ in range(2):
            self.loop.run_until_complete(asyncio.sleep(0))

    def is_asked(self, kind: int) -> asyncio.Task[list[int] | None]:
        """Let the box put a question to us."""
        question = self.box._ask(kind, WANTED, b"", []) if kind == frames.MAKE else self.box.resize(WANTED, 1 << 20)
        asking = self.loop.create_task(question)
        asking.add_done_callback(lambda task: task.exception())  # seen, whatever else fails
        self.loop.run_until_complete(asyncio.sleep(0))
        assert self.end.recv(frames.PACKET_MAX).startswith(frames.HEADER.pack(kind, WANTED))
        return asking

    def close(self) -> None:
        """End the conversation; nothing of it stays open."""
        self.end.close()
        while self.box.is_alive:
            self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.set_exception_handler(None)


@pytest.fixture(scope="module")
def make_fd() -> Iterator[Callable[[str], int]]:
    """Makes descriptors that a packet may bring: pidfds of a child that ended and of one to be killed, and others."""
    children = [subprocess.Popen(["/bin/true"])]
    ended = os.pidfd_open(children[0].pid)
    children[0].wait()

    def alive() -> int:
        if len(children) == 1 or children[-1].poll() is not None:
            children.append(subprocess.Popen(["/bin/sleep", "600"]))
        return os.pidfd_open(children[-1].pid)

    def pipe() -> int:
        read_end, write_end = os.pipe()
        os.close(write_end)
        return read_end

    made = {
        "pipe": pipe,
        "file": lambda: os.memfd_create("file"),
        "ended": lambda: os.dup(ended),
        "alive": alive,
    }
    yield lambda kind: made[kind]()
    os.close(ended)
    for child in children:
        child.kill()
        child.wait()


def _open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_no_packet_of_the_zygote_breaks_the_server_or_leaves_anything_open(
    loop: asyncio.AbstractEventLoop, make_fd: Callable[[str], int]
) -> None:
    @bounded(250)
    @given(conversations, st.sampled_from([None, frames.MAKE, frames.RESIZE]))
    def check(conversation: list[tuple[bytes, list[str]]], question: int | None) -> None:
        before = _open_fds()
        zygote = Zygote(loop)
        asking = zygote.is_asked(question) if question is not None else None
        try:
            for packet, kinds in conversation:
                fds = [make_fd(kind) for kind in kinds]
                zygote.send(packet, fds)
                for fd in fds:
                    os.close(fd)
        finally:
            zygote.close()
        assert zygote.failures == []
        assert zygote.recorder.box_is_dead
        _check_answer(asking)
        assert _open_fds() == before

    check()


def _check_answer(asking: asyncio.Task[list[int] | None] | None) -> None:
    """Whoever asked was answered, at the latest by the end of the box; what was made belongs to whoever asked."""
    if asking is None:
        return
    assert asking.done()
    if asking.exception() is not None:
        assert isinstance(asking.exception(), OSError)
    elif (fds := asking.result()) is not None:
        assert len(fds) == 1
        os.close(fds[0])


def test_any_exit_status_of_the_zygote_is_told_as_one_that_a_shell_could_see(loop: asyncio.AbstractEventLoop) -> None:
    @bounded(300)
    @given(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 0xFFFF), st.booleans())
    @example(0x137F, True)  # stopped
    @example(0xFFFF, True)  # continued
    @example(-1, True)
    def check(status: int, started: bool) -> None:
        with _a_sandbox(loop) as (sandbox, _):
            sandbox._started = started
            sandbox.user_process_ended(status, Usage())
            try:
                exited = sandbox._classify(Limits(1, 1, 1, 1))
            except BackendError:
                return  # ours, and said so
            assert 0 <= exited.exit_code <= 255

    check()
