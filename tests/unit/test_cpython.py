"""`make test-cpython` tells what differs, and what is listed in vain."""

from __future__ import annotations

from scripts.cpython import Compared, Known, differing, full_name, judge, known_differences, no_longer, parse

PASSED, FAILED = ("passed", ""), ("failed", "x.py:1 OSError: no")


def told(*lines: str) -> bytes:
    return "".join(f"\n@@outcome {line}\n" for line in lines).encode()


def compared(*differ: str, modules: tuple[str, ...] = ("test_os",)) -> Compared:
    return Compared("3.12", modules, 10, dict.fromkeys(differ, FAILED), 1)


def test_the_worst_outcome_of_a_test_counts_whatever_else_is_printed() -> None:
    output = b"dots ..." + told('["a", "begun", ""]', '["a", "failed", "why"]', '["a", "passed", ""]') + b"@@ noise"
    assert parse(output + told('["b", "begun", ""]')) == {"a": ("failed", "why"), "b": ("begun", "")}


def test_a_line_that_was_cut_short_is_no_outcome() -> None:
    assert parse(told('["a", "passed", ""]') + b'\n@@outcome ["b", "pas') == {"a": PASSED}


def test_only_what_passes_plainly_can_differ() -> None:
    plainly = {"a": PASSED, "b": PASSED, "c": FAILED, "d": PASSED}
    inside = {"a": PASSED, "b": FAILED, "c": PASSED}
    assert differing(plainly, inside) == {"b": FAILED, "d": ("missing", "")}


def test_a_difference_without_a_reason_is_told() -> None:
    known = [Known(("test.test_os.*.test_chown*",), "", "one uid"), Known(("test.test_os.*",), "<3.12", "older")]
    reasons, unlisted = judge(compared("test.test_os.C.test_chown_to", "test.test_os.C.test_link"), known)
    assert (dict(reasons), unlisted) == ({"one uid": 1}, ["test.test_os.C.test_link"])


def test_a_test_that_fails_with_other_words_than_its_reason_says_is_not_listed() -> None:
    known = [Known(("test.test_os.*",), "", "read-only", "Read-only file system")]
    assert judge(compared("test.test_os.C.test_link"), known)[1] == ["test.test_os.C.test_link"]


def test_what_is_listed_and_differs_no_more_is_told_if_its_module_was_run() -> None:
    known = [Known(("test.test_os.*.test_chown", "test.test_io.*"), "", "gone")]
    assert no_longer([compared()], known) == ["test.test_os.*.test_chown"]
    assert no_longer([compared("test.test_os.C.test_chown")], known) == []


def test_every_listed_pattern_names_a_module() -> None:
    assert all(pattern.startswith("test.test_") for each in known_differences() for pattern in each.tests)


def test_a_test_from_elsewhere_is_named_with_the_module_that_brings_it() -> None:
    assert full_name("test_os", "test.test_os.C.test_link") == "test.test_os.C.test_link"
    assert full_name("test_idle", "idlelib.T.test_x") == "test.test_idle:idlelib.T.test_x"
    assert no_longer([compared(modules=("test_idle",))], [Known(("test.test_idle:*",), "", "no Tcl")])
