"""The server that is attacked, a neighbour that must not notice, and guarded servers for the twins."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

import pytest

from tests.support.api import Api
from tests.support.guarded import Guarded
from tests.support.machine import need
from tests.support.server import ServerProcess
from tests.support.traces import Traces, settled, traces

GUARDS_KEPT = 4
AT_ONCE = 16  # sandboxes of which a server keeps what can be used again


class Neighbour:
    """Somebody else's evals, one after the other, each with an answer that only it can have."""

    def __init__(self, url: str) -> None:
        self.answers = 0
        self.wrong: list[object] = []
        self.seconds: list[float] = []
        self._api = Api(url)
        self._more = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        number = 0
        while not self._stopping:
            number += 1
            try:
                answer = self._api.eval(f"{number} * 7919", eval_last_expr=True)
                is_right = (answer["result"], answer["termination"]) == (str(number * 7919), "exited")
            except Exception as error:
                answer, is_right = {"raised": repr(error)}, False
            with self._more:
                if not is_right:
                    self.wrong.append(answer)
                self.answers += 1
                self._more.notify_all()

    def is_well(self) -> bool:
        """Whether every answer so far was right, and two more come now."""
        with self._more:
            wanted = self.answers + 2
            came = self._more.wait_for(lambda: self.answers >= wanted, timeout=20)
        return came and not self.wrong

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self._api.close()


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults but for a pool of one, so that what is left behind is told from what waits."""
    process = ServerProcess(tmp_path_factory.mktemp("attacked"), pool_min=1, pool_max=1)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def attacked_api(attacked: ServerProcess) -> Iterator[Api]:
    api = Api(attacked.url)
    yield api
    api.close()


@pytest.fixture(scope="session")
def at_rest(attacked: ServerProcess, attacked_api: Api) -> Traces:
    """What the server has while nothing runs, and may keep to use again."""
    first = attacked_api.eval("1")
    time.sleep(0.3)  # until the store alone has it, which keeps a descriptor open once it was asked
    attacked_api.look(first["execution_id"])
    return settled(lambda: traces(attacked)).with_spares(AT_ONCE)


@pytest.fixture
def privilege() -> None:
    """Some limits are weaker without cgroups or for an ordinary user, and shown as such."""
    need("cgroups", "root")


@pytest.fixture
def undisturbed(attacked: ServerProcess, at_rest: Traces) -> Iterator[Neighbour]:
    """A neighbour during the test; afterwards all its answers were right and nothing of anything is left."""
    neighbour = Neighbour(attacked.url)
    try:
        yield neighbour
        assert neighbour.is_well(), neighbour.wrong
    finally:
        neighbour.stop()
    assert settled(lambda: traces(attacked), at_rest, interval=0.02) <= at_rest


@pytest.fixture(scope="session")
def without() -> Iterator[Callable[..., Guarded]]:
    """`without("seccomp", "capabilities")`: a guarded server lacking these; a few are kept for the next twin."""
    need("root", "iproute2", "cgroups")
    kept: OrderedDict[tuple[str, ...], Guarded] = OrderedDict()

    def guarded(*names: str) -> Guarded:
        if names not in kept:
            while len(kept) >= GUARDS_KEPT:
                kept.popitem(last=False)[1].close()
            kept[names] = Guarded(names)
        kept.move_to_end(names)
        return kept[names]

    yield guarded
    for guard in kept.values():
        guard.close()
