"""A registry on loopback with one image, which an engine takes for a real one; and one that answers nobody.

The image is an unpacked file system as `tests.support.engine` has it: one layer, not compressed. An engine talks plain
HTTP to whoever is at 127.0.0.0/8.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK = 1 << 20  # bytes; a pause after each gives the engine time to tell how far it is
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves the tarball as the image `name`, whatever repository and tag are asked for."""

    def __init__(self, layer: Path, *, pause: float = 0.01) -> None:
        self._pause = pause  # seconds
        self._layer = layer
        with layer.open("rb") as file:
            layer_digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]}, "history": [],
        }).encode()  # fmt: skip
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": _part("application/vnd.docker.container.image.v1+json", len(config), _digest(config)),
            "layers": [_part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer.stat().st_size, layer_digest)],
        }).encode()  # fmt: skip
        self.digest = _digest(manifest)
        self.requests: list[str] = []
        self._bodies = {self.digest: manifest, _digest(config): config}
        self._layer_digest = layer_digest
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        name = request.path.rpartition("/")[2]
        if "/manifests/" in request.path and not name.startswith("sha256:"):
            name = self.digest
        is_layer = name == self._layer_digest
        body = b"" if is_layer else self._bodies.get(name, b"{}" if request.path == "/v2/" else b"")
        request.send_response(200 if is_layer or body else 404)
        request.send_header("Content-Type", MANIFEST if "/manifests/" in request.path else "application/octet-stream")
        request.send_header("Content-Length", str(self._layer.stat().st_size if is_layer else len(body)))
        request.send_header("Docker-Content-Digest", name)
        request.end_headers()
        if request.command == "HEAD":
            return
        request.wfile.write(body)
        if is_layer:
            self._send_layer(request)

    def _send_layer(self, request: BaseHTTPRequestHandler) -> None:
        with self._layer.open("rb") as file:
            while chunk := file.read(CHUNK):
                request.wfile.write(chunk)
                time.sleep(self._pause)

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def silence() -> Iterator[str]:
    """The address of a registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _part(kind: str, size: int, digest: str) -> dict[str, object]:
    return {"mediaType": kind, "size": size, "digest": digest}
