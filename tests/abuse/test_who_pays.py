"""Nobody else pays: what an attack takes of the machine, of the server and of another caller's time, seen from outside.

One case of each kind runs here; all of them are in the table that `make payers` prints. A figure that is over its bound
is measured again, twice at most, since the machine may be busy with something else. Each attack has a twin: a piece of
code runs bare in a memory cgroup, a stranger meets a server without bounds, and the instrument sees what they take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.abuse.payers import PIECES, Piece
from tests.abuse.scene import SERVER_MB, TRIES, Scene, bare_bill, naive_scene, server_scene
from tests.abuse.strangers import STRANGERS, Stranger
from tests.support.bill import MEBIBYTE, Meter
from tests.support.machine import need

CODE = (  # one of each kind of what the kernel allocates
    "has-netlink-answer-into-queues-that-nobody-reads",
    "collects-send-time-stamps-in-error-queues",
    "leaves-data-in-connections-that-it-never-accepts",
    "corks-datagrams-that-it-never-sends",
    "touches-a-page-in-every-2-MiB-of-terabytes",
    "asks-for-every-share-of-the-processors",
)
SENT = (
    "many-headers",  # the first: memory that the server has kept of others would hide some of what it takes
    "trailers",
    "half-bodies",
    "unknown-lists",
    "unread-answers",
    "idle-connections",
    "large-promise",
)
BY_NAME: dict[str, Piece | Stranger] = {str(attack): attack for attack in (*PIECES, *STRANGERS)}


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Scene, Meter, int]]:
    """A server and the caller beside, what looks at both, and the bytes that the server has at first."""
    need("root", "cgroups")  # who else sees what the kernel has charged to other cgroups?
    with server_scene() as (scene, meter):
        yield scene, meter, meter.read()["server"]


@pytest.fixture(scope="module")
def scene(made: tuple[Scene, Meter, int]) -> Scene:
    """Where the attacks are played."""
    return made[0]


@pytest.mark.parametrize("name", CODE)
def test_code_takes_no_more_than_it_was_given(name: str, scene: Scene) -> None:
    outcome = scene.best(BY_NAME[name])
    assert not outcome.complaints(), outcome.bill.where()


@pytest.mark.parametrize("name", SENT)
def test_a_stranger_makes_nobody_pay(name: str, scene: Scene) -> None:
    outcome = scene.best(BY_NAME[name])
    assert not outcome.complaints(), outcome.bill.where()


def test_a_minute_after_all_of_it_the_server_is_what_it_was(made: tuple[Scene, Meter, int]) -> None:
    _, meter, at_first = made
    wanted = at_first + SERVER_MB * MEBIBYTE
    assert meter.settled("server", wanted, 60) <= wanted


KNOWN = (  # MiB that it takes, and is charged
    (Piece("has memory of its own", "x = b'x' * (100 << 20)\nstay()"), 100, 100),
    (Piece("has kernel memory that nobody is charged for", "held = []\nfor each in sockets(800, 2, 2):\n"
           "  held.append(each); each.connect(('127.0.0.1', 9)); each.send(bytes(60000), socket.MSG_MORE)\nstay()"), 50, 0),
)  # fmt: skip


@pytest.mark.twin
@pytest.mark.parametrize(("piece", "takes", "charged"), KNOWN, ids=lambda value: str(value))
def test_the_instrument_sees_what_is_known(piece: Piece, takes: int, charged: int) -> None:
    for _ in range(TRIES):
        bill = bare_bill(piece)
        seen = (bill.mib("taken") - takes, bill.mib("charged") - charged)
        if is_right := all(-10 <= more <= 30 for more in seen):  # its Python has 10 MiB of its own
            break
    assert is_right, seen


def those_with_twins(attacks: list[Any], least: str, at_once: tuple[str, ...]) -> list[Any]:
    """Those of which it is known what they take where nothing bounds them; most of them take too long for each change."""
    twins = [attack for attack in attacks if getattr(attack, least)]
    return [
        pytest.param(attack, id=str(attack), marks=() if str(attack) in at_once else pytest.mark.long)
        for attack in twins
    ]


@pytest.mark.twin
@pytest.mark.parametrize("piece", those_with_twins(PIECES, "bare_mb", CODE))
def test_its_twin_without_a_sandbox_takes_more(piece: Piece) -> None:
    wanted = piece.bare_mb * MEBIBYTE
    assert bare_bill(piece, wanted).grew("taken") > wanted


@pytest.mark.twin
@pytest.mark.parametrize("stranger", those_with_twins(STRANGERS, "naive_mb", ("trailers", "unread-answers")))
def test_its_twin_makes_a_server_without_bounds_pay(stranger: Stranger) -> None:
    with naive_scene() as naive:
        assert naive.play(stranger).bill.grew("server") > stranger.naive_mb * MEBIBYTE
