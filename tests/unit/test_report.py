"""The report pipe's reader: whatever comes, in whatever pieces."""

from __future__ import annotations

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from python_executor.guest import frames
from python_executor.model.events import Raised, Result
from python_executor.sandboxes.report import ReportReader

MOST_BUFFERED = frames.FRAME_HEADER.size + 1 + frames.RESULT_MAX  # an incomplete frame of the longest kind

TEXT = st.text(max_size=30)
RESULTS = st.builds(Result, TEXT, st.booleans())
RAISED = st.builds(Raised, TEXT, st.none() | st.integers(1, 2**32 - 1))
EXITS = st.integers(0, 255)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=10)


def frame_of(word: Result | Raised | int) -> bytes:
    match word:
        case Result(text, truncated):
            return frames.frame(frames.RESULT, bytes([truncated]) + text.encode())
        case Raised(name, line):
            return frames.frame(frames.RAISED, frames.RAISED_LINE.pack(line or 0) + name.encode())
        case code:
            return frames.frame(frames.EXIT, bytes([code]))


def read(data: bytes, sizes: list[int] = [1 << 20]) -> ReportReader:  # noqa: B006 - never changed
    """Feed the data in pieces of these sizes, over and over."""
    reader, start = ReportReader(), 0
    for size in cycle(sizes):
        if start >= len(data):
            return reader
        is_done = reader.feed(data[start : start + size])
        assert is_done == (reader.exit_code is not None)
        assert len(reader._buffer) < MOST_BUFFERED
        start += size
    raise AssertionError


@given(parts=st.lists(st.binary(max_size=20) | RESULTS.map(frame_of) | RAISED.map(frame_of)), sizes=SIZES)
def test_any_bytes_in_any_pieces_are_taken_without_complaint(parts, sizes):
    data = b"".join(parts)
    whole, pieces = read(data), read(data, sizes)
    assert (whole.events, whole.exit_code) == (pieces.events, pieces.exit_code)


@given(words=st.lists(RESULTS | RAISED | EXITS, max_size=8), sizes=SIZES)
def test_each_kind_counts_once_and_nothing_after_a_second_of_one_kind_or_the_exit(words, sizes):
    reader = read(b"".join(map(frame_of, words)), sizes)
    believed: list[object] = []
    for word in words:
        if any(type(word) is type(earlier) for earlier in believed):
            break
        believed.append(word)
        if isinstance(word, int):
            break
    said = {type(word): word for word in believed}
    assert reader.events == [said[kind] for kind in (Result, Raised) if kind in said]
    assert reader.exit_code == said.get(int)


@given(
    broken=st.sampled_from([
        frames.frame(0, b""),
        frames.frame(4, b"x"),
        frames.frame(frames.EXIT, b""),
        frames.frame(frames.EXIT, b"\0\0"),
        frames.frame(frames.RAISED, b"abc"),
        frames.frame(frames.RAISED, bytes(4 + frames.NAME_MAX + 1)),
        frames.frame(frames.RESULT, b""),
        frames.FRAME_HEADER.pack(frames.RESULT, 2**32 - 1),
    ]),
    sizes=SIZES,
)  # fmt: skip
def test_after_a_broken_frame_nothing_counts_and_nothing_is_kept(broken, sizes):
    reader = read(frame_of(Result("before")) + broken + frame_of(Raised("After", 1)) + frame_of(0), sizes)
    assert (reader.events, reader.exit_code, len(reader._buffer)) == ([Result("before")], None, 0)


def test_the_longest_words_fit_and_no_longer_ones():
    longest = Result("x" * frames.RESULT_MAX, truncated=True), Raised("N" * frames.NAME_MAX, 1)
    assert read(b"".join(map(frame_of, (*longest, 7))), [1 << 16]).events == list(longest)
    assert read(frame_of(Result("x" * (frames.RESULT_MAX + 1))), [1 << 16]).events == []


def test_text_that_is_not_utf8_and_a_line_0_are_shown_as_well_as_they_can_be():
    name = frames.frame(frames.RAISED, frames.RAISED_LINE.pack(0) + b"\xff")
    assert read(frames.frame(frames.RESULT, b"\x00\xed\xa0\x80") + name).events == [
        Result("\ufffd\ufffd\ufffd"),
        Raised("\ufffd", None),
    ]
