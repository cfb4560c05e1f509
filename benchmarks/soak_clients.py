"""The soak's clients: how one speaks to the server, some that play the mix, and one that evals at a steady pace."""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.archives import Content, tar_of
from tests.support.exchange import MULTIPART, multipart

CLIENTS = 5
PACE_SECONDS = 0.025  # from one plain eval to the next
SEED = 2026
WRONG_MAX = 200  # after so many wrong answers no more is played
TIMEOUT_SECONDS = 60.0  # that an answer may take
JSON = {"Content-Type": "application/json"}
STATUSES = {
    "exited": "completed", "signaled": "completed", "memory": "completed", "timeout": "failed", "killed": "killed"
}  # fmt: skip
PLAIN = {"stderr": "", "result": None, "error": None, "error_type": None, "stdout_truncated": False}

Times = list[tuple[float, float]]  # of evals: when each began, on the monotonic clock; its milliseconds


class Wrong(Exception):
    """An answer that is not right; the message says how."""


class Client:
    """One kept connection to the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status of the answer, and its JSON."""
        self._connection.request(method, "/api/v1" + path, body, headers or {})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """The JSON of an answer that must be a good one."""
        status, answer = self.send(method, path, body, headers)
        if status not in (200, 202):
            raise Wrong(f"{status} {answer}")
        return answer

    def eval(self, code: str, **fields: Any) -> Any:
        """Run code; its result."""
        return self.ask("POST", "/eval", json.dumps({"code": code, **fields}).encode(), JSON)

    def execute(self, files: dict[str, Content] | str, how: str = "sync", **metadata: Any) -> Any:
        """Upload files, or one main.py, and run them; the result, or for `async` what was accepted."""
        files = {"main.py": files} if isinstance(files, str) else files
        body = multipart(("tar", tar_of(files)), ("metadata", json.dumps(metadata).encode()))
        return self.ask("POST", f"/exec/{how}", body, MULTIPART)

    def submit(self, code: str, **metadata: Any) -> str:
        """Run one main.py without waiting; the path of the execution."""
        return f"/executions/{self.execute(code, 'async', **metadata)['execution_id']}"


def check(answer: Any, stdout: str = "", *, termination: str = "exited", exit_code: int = 0, **fields: Any) -> None:
    """Raise `Wrong` unless the answer is that. An uncaught exception's traceback is not compared, its class is."""
    wanted = {**PLAIN, "termination": termination, "exit_code": exit_code, "stdout": stdout, **fields}
    wanted["status"] = STATUSES[termination]
    if wanted["error_type"] is not None:
        del wanted["stderr"]
    for name, value in wanted.items():
        if answer[name] != value:
            shown = {key: answer[key] for key in ("status", "termination", "exit_code", "error", "stderr")}
            raise Wrong(f"{name} is {answer[name]!r:.80}, not {value!r:.80}: {shown!r:.300}")


class Kind(NamedTuple):
    """A kind of execution: how many of a thousand are of it, and how one is done."""

    name: str
    share: float
    play: Callable[[Client, int, Random], None]


def make_deck(kinds: Sequence[Kind], size: int) -> list[Kind]:
    """So many executions in an order to be played: each kind at least once, spread evenly; the first fills up."""
    first, *others = kinds
    chance = Random(SEED)
    counts = {kind: max(1, round(kind.share * size / 1000)) for kind in others}
    counts[first] = max(1, size - sum(counts.values()))
    places = [((turn + chance.random()) / count, kind) for kind, count in counts.items() for turn in range(count)]
    return [kind for _, kind in sorted(places, key=lambda place: place[0])][:size]


class Play:
    """A deck of executions, played so many times over by some clients, each taking the next card."""

    def __init__(self, url: str, deck: list[Kind], times: int) -> None:
        self.executions = 0  # that are done
        self.played: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.turns: list[float] = []  # when the deck was begun each time, and when it was all dealt; monotonic clock
        self._url = url
        self._deck = deck
        self._is_dealt = False
        self._cards: Iterator[int] = iter(range(len(deck) * times))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._live, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    @property
    def is_over(self) -> bool:
        """Whether all was played."""
        return not any(thread.is_alive() for thread in self._threads)

    def _live(self) -> None:
        with closing(Client(self._url)) as client:
            while (number := self._draw()) is not None:
                self._play(client, number)

    def _draw(self) -> int | None:
        with self._lock:
            number = next(self._cards, None) if len(self.wrong) < WRONG_MAX else None
            if not self._is_dealt and (number is None or number % len(self._deck) == 0):
                self.turns.append(time.monotonic())
            self._is_dealt = number is None
            return number

    def _play(self, client: Client, number: int) -> None:
        place = number % len(self._deck)
        kind, wrong = self._deck[place], None
        try:
            kind.play(client, number, Random(SEED + place))
        except Exception as error:
            wrong = str(error) if isinstance(error, Wrong) else repr(error)
            client.close()
        with self._lock:
            self.executions += 1
            self.played[kind.name] += 1
            if wrong is None:
                self.right[kind.name] += 1
            else:
                self.wrong.append(f"{kind.name}, {number}: {wrong}")


class Steady:
    """A process that evals something plain at a steady pace, and notes how long each took: no other client slows it."""

    def __init__(self, url: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._end, ends = spawn.Pipe()
        self._process = spawn.Process(target=eval_steadily, args=(url, ends), daemon=True)
        self._process.start()
        self._end.recv()

    def end(self) -> tuple[Times, list[str]]:
        """All evals, and what was wrong with some."""
        self._end.send(None)
        told: tuple[Times, list[str]] = self._end.recv()
        self._process.join()
        return told


def eval_steadily(url: str, ends: Connection) -> None:
    """The life of that process: it says that it is ready, and at the end what it has seen."""
    took: Times = []
    wrong: list[str] = []
    with closing(Client(url)) as client:
        client.eval("1")
        ends.send(None)
        for number in itertools.count():
            began = time.monotonic()
            try:
                check(client.eval(f"{number} * 7919", eval_last_expr=True), result=str(number * 7919))
            except Exception as error:
                wrong.append(f"plain eval, {number}: {error!r}")
                client.close()
            took.append((began, (time.monotonic() - began) * 1000))
            if ends.poll(max(0.0, began + PACE_SECONDS - time.monotonic())):
                break
    ends.send((took, wrong))
