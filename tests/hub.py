"""A Hugging Face hub on this machine: as much of one as downloads of single files need."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

COMMIT = "0" * 39 + "1"


class Hub(ThreadingHTTPServer):
    """Answers for ``/REPO/resolve/main/FILE``; `files` by path, or a status instead of a file."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.status = None
        self.headers = {}
        self.delay = 0.0
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        hub = self.server
        hub.requests.append((self.command, self.path))
        time.sleep(hub.delay)
        content = hub.files.get(self.path)
        status = hub.status or (200 if content is not None else 404)
        content = content if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 200:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        elif status == 404:
            self.send_header("X-Error-Code", "EntryNotFound" if hub.files else "RepoNotFound")
        for name, value in hub.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine, and an empty cache."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    at(monkeypatch, server.url)
    caching_in(monkeypatch, tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def nobody(monkeypatch, cache):
    """A hub that does not answer, and an empty cache; for processes that are started, too."""
    at(monkeypatch, "http://127.0.0.1:9")  # nobody listens at the discard port
    caching_in(monkeypatch, cache)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


# What the client reads from the environment, it reads when it is imported.


def caching_in(monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(folder), raising=False)


def at(monkeypatch, url):
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
