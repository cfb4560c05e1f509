"""What is to run: the code of a file, and for an eval its last expression apart from all before it."""

from __future__ import annotations

import _ast
import re
import sys

TYPE_CHECKING = False  # without `typing`: what is imported here takes time in each container
if TYPE_CHECKING:
    import types
    from typing import Any, Optional, Tuple

FUTURE_FLAGS = 0x1FE0000  # every CO_FUTURE_* of 3.9 to 3.14
MOST_TRIES = 200  # lines at which the last statement may begin
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)  # as PEP 263 has it
_GOES_ON = re.compile(r"[ \t\f#)\]}]|(?:elif|else|except|finally)\b|$")  # a line that begins no statement


def read(path: str) -> Optional[bytes]:
    """The file's bytes; None where only the interpreter itself knows what to do with them."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except IsADirectoryError:
        return None
    except OSError as error:
        sys.stderr.write(f"python: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    return source if b"\0" not in source and _is_decodable(source) else None  # else an archive, bytecode, or broken


def _is_decodable(source: bytes) -> bool:
    """Whether the interpreter could read it as a file: `compile` lets pass what is wrong in a comment."""
    try:
        source.decode()
        return True
    except UnicodeDecodeError:
        first, second, *_ = [*source.split(b"\n", 2), b"", b""]
        coding = _CODING.match(first) or (_CODING.match(second) if not first.split(b"#")[0].strip() else None)
        return coding is not None and coding[1].lower().replace(b"_", b"-") not in (b"utf-8", b"utf8")


def halves(source: bytes, path: str) -> Tuple[types.CodeType, Optional[types.CodeType], int]:
    """The code before the last expression, that expression, and its line; all of the code where it ends otherwise."""
    try:
        tree: Any = compile(source, path, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)  # `ast.parse` has a frame
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, _ast.Expr):
            return compile(tree, path, "exec", dont_inherit=True), None, 0
        del tree.body[-1]
        body = compile(tree, path, "exec", dont_inherit=True)
        expression = compile(_ast.Expression(last.value), path, "eval", body.co_flags & FUTURE_FLAGS, dont_inherit=True)
        return body, expression, last.lineno
    except RecursionError:
        pass  # as objects a tree may be less deep than the compiler's own
    return _halves_by_lines(source, path)


def _halves_by_lines(source: bytes, path: str) -> Tuple[types.CodeType, Optional[types.CodeType], int]:
    """Likewise, where the last statement has lines of its own: both parts are right only if it begins there."""
    whole = compile(source, path, "exec", dont_inherit=True)
    coding = _CODING.match(source) or _CODING.match(source.partition(b"\n")[2])
    lines = source.decode(coding[1].decode() if coding else "utf-8-sig", "replace").split("\n")
    starts = [number for number, line in enumerate(lines) if not _GOES_ON.match(line)]
    for start in starts[: -MOST_TRIES - 1 : -1]:
        try:
            body = compile("\n".join(lines[:start]), path, "exec", whole.co_flags & FUTURE_FLAGS, dont_inherit=True)
        except SyntaxError:
            continue
        tail = "\n" * start + "\n".join(lines[start:])
        try:
            return body, compile(tail, path, "eval", body.co_flags & FUTURE_FLAGS, dont_inherit=True), start + 1
        except SyntaxError:
            break
    return whole, None, 0
