"""A spec as guest/intake.py reads it, whichever way it goes in."""

from __future__ import annotations

import marshal

from ..guest import frames
from ..model.spec import DirectoryEntry, ExecutionSpec, FileEntry, SymlinkEntry


def message(
    spec: ExecutionSpec,
    *,
    content_bytes: int = 0,
    file_limit: int,
    data_limit: int = 0,
    has_environment: bool = False,
    processors: tuple[int, int] | None = None,
    becomes: int = 0,
) -> bytes:
    """Its length and itself; the files' contents come after.

    `content_bytes` follow in one piece. `file_limit` and `data_limit` are in bytes. `processors` are those that the
    code keeps to, as `Processors` chose them. `becomes` is the uid that root gives itself before the code. 0 stands for
    none.
    """
    data = marshal.dumps(
        {
            "entries": [_entry(entry) for entry in spec.tree.entries],
            "content_bytes": content_bytes,
            "stdin_bytes": len(spec.stdin),
            "entrypoint": spec.entrypoint,
            "module": spec.module,
            "args": spec.args,
            "env": dict(spec.env),
            "environment": has_environment,
            "pre_commands": spec.pre_commands,
            "eval_last_expr": spec.eval_last_expr,
            "file_limit": file_limit,
            "data_limit": data_limit,
            "processors": processors,
            "becomes": becomes,
        },
        frames.SPEC_FORMAT,
    )
    return frames.SPEC_LENGTH.pack(len(data)) + data


def _entry(entry: FileEntry | DirectoryEntry | SymlinkEntry) -> list[object]:
    if isinstance(entry, FileEntry):
        return ["file", entry.path, entry.mode, entry.offset, entry.size]
    if isinstance(entry, DirectoryEntry):
        return ["directory", entry.path, entry.mode]
    return ["symlink", entry.path, entry.target]
