"""The parts of the guest's runner that need no sandbox."""

from __future__ import annotations

import os
import signal

import pytest

from python_executor.guest import frames
from python_executor.model.events import Raised, Result
from python_executor.sandboxes.report import ReportReader

# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, 0),
        (0, 0),
        (3, 3),
        (True, 1),
        (256, 0),
        (-1, 255),
        (2**70, None),
        (-(2**70), None),
        (signal.SIGTERM, 15),
        ("why", 1),
        (1.5, None),  # None: left to the interpreter
        ((1, 2), None),
    ],
    ids=str,
)
def test_an_exit_request_comes_to_what_the_interpreter_makes_of_it(runner, capsys, value, code):
    assert runner.exit_code_of(SystemExit(value)) == code
    assert capsys.readouterr().err == ("why\n" if value == "why" else "")


# --- the report -------------------------------------------------------------------------------------------------------


def heard(*said: bytes) -> list[Result | Raised]:
    """What the server makes of it."""
    reader = ReportReader()
    assert reader.feed(b"".join(said) + frames.frame(frames.EXIT, b"\0"))
    return reader.events


def raised_by(runner, source: str, path: str = "/work/main.py") -> list[Result | Raised]:
    def library(action):
        return action()

    try:
        exec(compile(source, path, "exec"), {"library": library, "fail": lambda: 1 / 0})
    except BaseException as error:
        return heard(runner.raised_frame(error, path))
    raise AssertionError


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("\n1 / 0", Raised("ZeroDivisionError", 2)),
        ("\n\nfail()", Raised("ZeroDivisionError", 3)),  # raised in another file
        ("def f():\n  1 / 0\n\nf()", Raised("ZeroDivisionError", 2)),  # the innermost frame of this file
        ("def f():\n  1 / 0\n\nlibrary(f)", Raised("ZeroDivisionError", 2)),  # by way of another file
        ("\n\n(", Raised("SyntaxError", 3)),
        ("class \N{LATIN SMALL LETTER E WITH ACUTE}(Exception): pass\nraise \u00e9", Raised("\u00e9", 2)),
        ("raise KeyboardInterrupt", Raised("KeyboardInterrupt", 1)),
        (f"raise type('N' * {frames.NAME_MAX + 9}, (Exception,), {{}})", Raised("N" * frames.NAME_MAX, 1)),
        ("raise SyntaxError('made up')", Raised("SyntaxError", None)),
        ("raise SyntaxError('', ('f', -3, 1, ''))", Raised("SyntaxError", None)),
        ("raise SyntaxError('', ('f', 'text', 1, ''))", Raised("SyntaxError", None)),
    ],
)
def test_an_exception_is_told_by_its_class_and_its_line(runner, source, expected):
    assert raised_by(runner, source) == [expected]


def test_a_line_that_no_file_has_is_told_as_none(runner):
    assert raised_by(runner, "raise SyntaxError('', ('f', 2**40, 1, ''))") == [Raised("SyntaxError", None)]


def test_an_exception_of_other_files_alone_has_no_line(runner):
    try:
        int("x")
    except ValueError as error:
        assert heard(runner.raised_frame(error, "/work/main.py")) == [Raised("ValueError", None)]


class Shown:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def test_a_result_is_capped_and_says_so(runner):
    longest = "x" * frames.RESULT_MAX
    assert heard(runner.result_frame(Shown(longest))) == [Result(longest, truncated=False)]
    assert heard(runner.result_frame(Shown(longest + "y"))) == [Result(longest, truncated=True)]


def test_a_result_with_lone_surrogates_or_cut_within_a_character_is_still_a_result(runner):
    assert heard(runner.result_frame(Shown("a\ud800b"))) == [Result("a\ufffd\ufffd\ufffdb")]
    (cut,) = heard(runner.result_frame(Shown("x" + "\N{SNOWMAN}" * (frames.RESULT_MAX // 3 + 1))))
    assert cut.truncated
    assert cut.text.endswith("\N{SNOWMAN}")


def test_a_closed_report_pipe_is_nobodys_error(runner):
    read_end, write_end = os.pipe()
    os.close(read_end)
    runner.tell(write_end, b"frame")
    os.close(write_end)
    runner.tell(write_end, b"frame")
