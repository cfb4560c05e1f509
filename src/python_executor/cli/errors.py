"""What the command line says when something of ours goes wrong, and the exit codes that are not the script's."""

from __future__ import annotations

OUR_FAILURE = 125  # as with `env`, `timeout` and `docker run`: what was to run did not get to run, or not to its end
INTERRUPTED = 130  # 128 + SIGINT
OUTPUT_CLOSED = 141  # 128 + SIGPIPE


class Failure(Exception):
    """Ours, not the script's: sentences for the terminal, one a line, that say what happened and what to do next."""
