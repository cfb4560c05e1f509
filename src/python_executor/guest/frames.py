"""What passes between server, zygote and sandbox: the one file of the guest that the server's side reads.

Report pipe, guest to server, written beside user code and therefore never trusted: a frame is kind (1 byte), length
(4 bytes, big-endian), payload. `RESULT` and `RAISED` come at most once each, `EXIT` is the last.

    RESULT  1 byte: WHOLE, CUT or UNSHOWN; then repr() as UTF-8, at most RESULT_MAX bytes, or why it failed
    RAISED  4 bytes: line or 0; then the exception's class name as UTF-8, at most NAME_MAX bytes
    EXIT    1 byte: the exit code

Control socket of a sandbox, a stream. Guest to server: one `READY` byte once every boundary is up, or `FAILED` and a
sentence; later one `STARTED` byte before the first line of user code, after which the guest closes it. Server to guest:
4 bytes length, the spec in `marshal`'s format 2 (which all versions read, at the least cost), then the files' contents.
Two things come as descriptors, with the length: standard input, where there is any, as the read end of a pipe; and a
large archive, in place of the contents.

Standard input of a container (container.py), server to guest: the same, with each file's content in the order of the
files; then the program's standard input, for PID 1 to pass on: `STARTED` tells it how many bytes (8, big-endian) come.
Standard output, guest to server, and as little to be trusted as the report pipe: frames as there, `ALIVE` with the
interpreter's version first; `WORD` is what a sandbox says on its control socket, `OUTPUT`, `ERRORS` and `REPORT` are
what was written to descriptors 1, 2 and 3, `ENDED` has the wait status of the user process. Each has at most CHUNK_MAX
bytes.

Control socket of a zygote, a packet each, from the server: `MAKE`, `RESIZE`, `EXPOSE` (its network namespace gets a way
out), `SHOW` (a directory of the store, at /venv), `LISTEN` (a socket inside of it, for the server), `FORGET` (a
directory of the store is about to go; of no sandbox). Each is answered by `DONE` or `REFUSED` and a sentence. And from
the zygote: `EXITED` for each user process that has been reaped. Each carries a sandbox's number first.

From a sandbox that builds an environment (build.py), over HTTP: its files, each a header, a path relative to /venv and
the content; `END_OF_FILES` comes last.
"""

from __future__ import annotations

import struct

RESULT, RAISED, EXIT = 1, 2, 3
WHOLE, CUT, UNSHOWN = 0, 1, 2
RESULT_MAX = 1 << 20
REASON_MAX = 200
NAME_MAX = 256
FRAME_HEADER = struct.Struct("!BI")
RAISED_LINE = struct.Struct("!I")

ALIVE, WORD, OUTPUT, ERRORS, REPORT, ENDED = 11, 12, 13, 14, 15, 16
CHUNK_MAX = 1 << 16
ENDED_BODY = struct.Struct("!i")

READY, FAILED, STARTED = b"R", b"F", b"S"
SPEC_LENGTH = struct.Struct("!I")
STDIN_BYTES = struct.Struct("!Q")
SPEC_FORMAT = 2

MAKE, RESIZE, EXPOSE, SHOW, LISTEN, FORGET, DONE, REFUSED, EXITED = 1, 2, 3, 4, 5, 6, 7, 8, 9
HEADER = struct.Struct("!BQ")  # kind, number of the sandbox
MAKE_BODY = struct.Struct("!IQ")  # uid inside the box, bytes of its files
RESIZE_BODY = struct.Struct("!Q")  # bytes of its files
LISTEN_BODY = struct.Struct("!H")  # port
EXITED_BODY = struct.Struct("!iQQ")  # as wait4(2) gives it: status, CPU time in ms, largest resident set in bytes
PACKET_MAX = 64 * 1024

END_OF_FILES, FILE, PROGRAM = 0, 1, 2
FILE_HEADER = struct.Struct("!BHQ")  # which of these, length of the path in bytes, bytes of content


def frame(kind: int, payload: bytes) -> bytes:
    """A frame of the report pipe."""
    return FRAME_HEADER.pack(kind, len(payload)) + payload
