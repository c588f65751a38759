"""A file server on this machine that can misbehave."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Answer:
    """How one request is answered.

    Attributes:
        status: other than 200: without the file
        headers: in addition
        cut: bytes of the body that are sent before the connection is dropped
        stall: seconds in which nothing is sent after `cut` bytes
        ranges: whether Range is heeded
        if_range: whether If-Range is heeded
        length: whether the length is said
        etag: None for that of the content, empty for none
        pause: seconds between pieces of the body
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    stall: float = 0
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    etag: str | None = None
    pause: float = 0


class Server:
    """Serves `files`, path to bytes; `answers` are used up one a request, then `usual` holds."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.usual = Answer()
        self.requests: list[tuple[str, str]] = []  # path, Range
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def add(self, path: str, content: bytes) -> str:
        """Serve a file; its address."""
        self.files[path] = content
        return f"{self.url}/{path}"

    @property
    def ranges(self) -> list[str]:
        """The Range of every request so far, empty where all was asked for."""
        return [asked for _, asked in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        state = self.server_state
        answer = state.answers.pop(0) if state.answers else state.usual
        asked = self.headers.get("Range", "")
        state.requests.append((self.path, asked))
        self.close_connection = True
        content = state.files.get(self.path.lstrip("/"))
        status = answer.status if content is not None or answer.status != 200 else 404
        if status != 200:
            self.send_response(status)
            self._headers(answer.headers | {"Content-Length": "0"})
            return
        etag = f'"{hashlib.md5(content).hexdigest()}"' if answer.etag is None else answer.etag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and answer.ranges else 0
        if answer.if_range and self.headers.get("If-Range", etag) != etag:
            start = 0
        if start >= len(content) and start:
            self.send_response(416)
            self._headers({"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        body = content[start:]
        headers = {"Content-Length": str(len(body))} if answer.length else {}
        headers |= {"ETag": etag} if etag else {}
        headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self.send_response(206 if start else 200)
        self._headers(headers | answer.headers)
        try:
            self._body(body if answer.cut is None else body[: answer.cut], answer.pause)
            time.sleep(answer.stall)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client was killed

    def _headers(self, headers: dict[str, str]) -> None:
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, body: bytes, pause: float) -> None:
        piece = max(1, len(body) // 50) if pause else max(1, len(body))
        for at in range(0, len(body), piece):
            self.wfile.write(body[at : at + piece])
            self.wfile.flush()
            time.sleep(pause)


@pytest.fixture
def server():
    with Server() as running:
        yield running
