"""HTTP in, HTTP out: the only room that knows the wire."""

from .app import create_app
from .server import run, serve

__all__ = ["create_app", "run", "serve"]
