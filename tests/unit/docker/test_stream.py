"""What a container says is bounded and strictly read, whoever speaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from python_executor.guest import frames
from python_executor.sandboxes.docker.stream import KINDS, FrameReader, Said

said = st.lists(st.builds(Said, st.sampled_from(sorted(KINDS)), st.binary(max_size=300)), max_size=8)


@given(said, st.lists(st.integers(1, 50), min_size=1))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(sent: list[Said], sizes: list[int]) -> None:
    data = b"".join(frames.frame(each.kind, each.data) for each in sent)
    reader, received, position, turn = FrameReader(), [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        received += reader.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert received == sent
    assert not reader.is_broken


@given(st.binary(max_size=2000))
def test_noise_breaks_the_reader_or_waits_for_the_rest_of_one_frame(noise: bytes) -> None:
    reader = FrameReader()
    assert all(each.kind in KINDS and len(each.data) <= frames.CHUNK_MAX for each in reader.feed(noise))
    assert len(reader._buffer) <= frames.FRAME_HEADER.size + frames.CHUNK_MAX


def test_a_length_beyond_the_bound_breaks_it_before_anything_is_kept() -> None:
    reader = FrameReader()
    assert list(reader.feed(frames.FRAME_HEADER.pack(frames.OUTPUT, frames.CHUNK_MAX + 1) + b"x" * 100)) == []
    assert reader.is_broken
    assert not reader._buffer


def test_after_a_broken_frame_nothing_counts() -> None:
    reader = FrameReader()
    good = frames.frame(frames.OUTPUT, b"good")
    assert list(reader.feed(good + b"\xff" * 10 + good)) == [Said(frames.OUTPUT, b"good")]
    assert list(reader.feed(good)) == []
