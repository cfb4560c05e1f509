"""The command line: the only room that talks to a terminal. Everything it runs goes through our client library."""

from .commands import main

__all__ = ["main"]
