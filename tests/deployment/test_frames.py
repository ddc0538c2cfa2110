"""What goes over the socket between router and worker comes out as it went in, or is refused."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evodiff.deployment.worker.frames import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Frame,
    FrameError,
    encode,
    read_frame,
    receive_frame,
)

HEADERS = st.dictionaries(
    st.text(max_size=20), st.none() | st.booleans() | st.integers() | st.text(max_size=50), max_size=5
)


def received(content: bytes) -> list[Frame]:
    """Read frames by a blocking socket until the peer is gone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        frames = []
        while (frame := receive_frame(ours)) is not None:
            frames.append(frame)
        return frames


async def read(content: bytes) -> list[Frame]:
    """Read frames by asyncio until the peer is gone."""
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    frames = []
    try:
        while True:
            frames.append(await read_frame(reader))
    except asyncio.IncompleteReadError:
        return frames


@given(st.lists(st.builds(Frame, HEADERS, st.binary(max_size=300)), max_size=4))
def test_frames_come_out_as_they_went_in(frames: list[Frame]) -> None:
    content = b"".join(encode(frame) for frame in frames)
    assert received(content) == frames
    assert asyncio.run(read(content)) == frames


@pytest.mark.parametrize(
    "lengths", [(MAX_HEADER_BYTES + 1, 0), (2, MAX_BODY_BYTES + 1), (2**32 - 1, 2**32 - 1)], ids=str
)
def test_a_frame_that_claims_too_much_is_refused_before_anything_is_read(lengths: tuple[int, int]) -> None:
    content = struct.pack("!II", *lengths)
    with pytest.raises(FrameError, match=str(lengths[0])):
        received(content)
    with pytest.raises(FrameError, match=str(lengths[1])):
        asyncio.run(read(content))


@pytest.mark.parametrize("header", [b"\x80\x04N.", b"[1]", b"{", b'"text"', b"[" * 100_000], ids=lambda text: text[:4])
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    content = struct.pack("!II", len(header), 0) + header
    with pytest.raises(FrameError, match="header"):
        received(content)


def test_a_frame_that_is_cut_off_counts_as_none() -> None:
    whole = encode(Frame({"kind": "done"}, b"image"))
    for length in range(len(whole)):
        assert received(whole[:length]) == []
        assert asyncio.run(read(whole[:length])) == []


def test_what_json_cannot_hold_is_not_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(Frame({"kid": float("nan")}))
