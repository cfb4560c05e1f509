"""Who pays: every attack of `tests/abuse` on memory and time, one after the other, and what it cost whom.

    make payers                                    # the whole table, twelve minutes
    .venv/bin/python benchmarks/who_pays.py connections   # those whose names have that in them; nothing is written

Prints a table and writes `results/who-pays.md`. Exit status 1 where a promise was broken. Needs root and cgroups, and a
machine that does nothing else meanwhile: the milliseconds are a caller's beside the attack.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import chosen, facts
from report import WIDTH, Table
from rich.console import Console

from tests.abuse.payers import PIECES, SECONDS, Piece
from tests.abuse.scene import CALLER_MS, LOOP_MS, MEMORY_BUDGET_MB, SERVER_MB, SLACK_MB, Outcome, server_scene
from tests.abuse.strangers import STRANGERS, Stranger
from tests.support.bill import MEBIBYTE, Meter

RESULTS = Path(__file__).resolve().parent / "results" / "who-pays.md"
HEAD = "# Who pays\n\nWritten by `make payers`, as root. The milliseconds are those of the machine.\n"
REST_SECONDS = 60.0  # after all of it, that the server gets to come to rest
CODE_HEADER = (
    "code that", "`memory_mb`", "charged", "taken of the machine", "left", "server grew by", "print(1) longer by",
    "loop p99 without / with", "verdict",
)  # fmt: skip
SENT_HEADER = (
    "a stranger's", "charged", "taken of the machine", "left", "server grew by", "descriptors", "print(1) longer by",
    "loop p99 without / with", "verdict",
)  # fmt: skip
NOTES = (
    "MiB and milliseconds. *Charged* is what the cgroups of the sandboxes were charged at most, *taken* what the "
    "machine lacked at most and nobody but they accounts for (`tests/support/bill.py`), *left* what was still taken a "
    "moment after the end. *print(1) longer by* is the worst answer of a caller beside the attack, less its worst "
    "alone; *loop* is what GET /health took. Where a line is over a bound, it was measured again, twice at most."
)
CODE_NOTES = (
    f"{NOTES} Each piece lasts {SECONDS:g} s and is bounded. Bounds: `memory_mb` + {SLACK_MB} taken and {SLACK_MB} "
    f"left, {SERVER_MB} of the server, {CALLER_MS} ms."
)
SENT_NOTES = (
    f"Bounds: {MEMORY_BUDGET_MB} (the memory budget of this server) + {SLACK_MB} taken, {SERVER_MB} of the server, "
    f"{CALLER_MS} ms; the loop held {LOOP_MS} ms longer than its p99 without the attack."
)
Outcomes = dict[Piece | Stranger, Outcome]


def complaints(outcome: Outcome) -> list[str]:
    """Those of the tests, and those that take a quiet machine."""
    found = [words for words in outcome.complaints() if not words.startswith("once")]
    if outcome.caller_longest > CALLER_MS:
        found.append(f"once +{outcome.caller_longest:.0f} ms")
    if outcome.loop_longer > LOOP_MS:
        found.append(f"loop +{outcome.loop_longer:.0f} ms")
    return found


def cells(outcome: Outcome, *more: str) -> tuple[str, ...]:
    """The columns that both tables have, `more` after what the server grew by."""
    bill = outcome.bill
    loop = f"{outcome.loop[0].p99:.0f} / {outcome.loop[1].p99:.0f}"
    taken = (f"{bill.mib('charged')}", f"{bill.mib('taken')}", f"{max(0, outcome.left) // MEBIBYTE}")
    verdict = ", ".join(complaints(outcome))
    return (*taken, f"{bill.mib('server')}", *more, f"{outcome.caller_longest:.0f}", loop, verdict or "held")


def tables(outcomes: Outcomes) -> list[Table]:
    """Of code, and of strangers."""
    code = [(each.name, str(each.memory_mb), *cells(out)) for each, out in outcomes.items() if isinstance(each, Piece)]
    sent = [
        (each.name, *cells(out, str(out.bill.grew("descriptors"))))
        for each, out in outcomes.items()
        if isinstance(each, Stranger)
    ]
    return [
        Table("Code in a sandbox", CODE_HEADER, code, CODE_NOTES),
        Table("Requests", SENT_HEADER, sent, SENT_NOTES),
    ]


def run(words: list[str]) -> tuple[Outcomes, int]:
    """All attacks whose names have one of the words; and by how many bytes the server is larger a minute later."""
    attacks = [each for each in (*PIECES, *STRANGERS) if not words or any(word in each.name for word in words)]
    outcomes: Outcomes = {}
    with server_scene() as (scene, meter):
        start = meter.read()["server"]
        for number, attack in enumerate(attacks, 1):
            print(f"{number} of {len(attacks)}: {attack.name}", file=sys.stderr, flush=True)
            outcomes[attack] = scene.best(attack, complaints)
        return outcomes, rest(meter, start)


def rest(meter: Meter, start: int) -> int:
    """By how much the server is larger than at its start once it has had time to come to rest."""
    return meter.settled("server", start + SERVER_MB * MEBIBYTE, REST_SECONDS) - start


def main() -> int:
    if os.geteuid() != 0:
        sys.exit("who_pays.py reads what the kernel has charged to whom: run it as root")
    words, console = sys.argv[1:], Console(width=WIDTH + 40)  # a wide table
    told = {name: value for name, value in facts(chosen()).items() if name not in ("bwrap", "Docker")}
    began = time.monotonic()
    outcomes, grown = run(words)
    told["Took"] = f"{(time.monotonic() - began) / 60:.0f} min"
    is_over = grown > SERVER_MB * MEBIBYTE
    verdict = "MISSED" if is_over else "held"
    after = f"At most a minute after all of it the server had {grown / MEBIBYTE:+.0f} MiB: {verdict}."
    made = [table for table in tables(outcomes) if table.rows]
    for table in made:
        table.show(console)
    console.print(after)
    if not words:
        lines = "".join(f"* {name}: {value}\n" for name, value in told.items())
        RESULTS.write_text("\n".join([HEAD, lines, after + "\n", *(table.markdown() for table in made)]))
    return int(is_over or any(map(complaints, outcomes.values())))


if __name__ == "__main__":
    sys.exit(main())
