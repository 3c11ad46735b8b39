"""A hub on the loopback address that speaks as much of the real protocol as `huggingface_hub` and `datasets` ask for.

Repositories have revisions, which name commits, and files; large files are redirected to another address, where they
can be had in part. A repository can be gated, and the server can break off a download or refuse requests for a while.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 50_000
"""Bytes from which a file is stored apart and redirected to."""


def sha(content: bytes, name: str = "sha1") -> str:
    return hashlib.new(name, content, usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """The files of each commit, and the revisions that name commits."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, revision: str, files: Mapping[str, bytes]) -> str:
        """Add a commit and let a revision name it."""
        commit = sha("".join(f"{name} {sha(content)}\n" for name, content in sorted(files.items())).encode())
        self.files[commit], self.revisions[revision] = dict(files), commit
        return commit

    def at(self, revision: str) -> str | None:
        return self.revisions.get(revision, revision if revision in self.files else None)


class Hub:
    """Repositories by kind and id, what was asked for, and what goes wrong next."""

    def __init__(self) -> None:
        """Start without repositories."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.break_off: set[str] = set()
        self.busy = 0

    def repository(self, name: str, kind: str = "models") -> Repository:
        """Return a repository, a new one if there is none."""
        return self.repositories.setdefault((kind, name), Repository())

    def downloads(self) -> list[tuple[str, str | None]]:
        """Return the paths of files that were asked for in full or in part, with the range."""
        return [(path, part) for method, path, part in self.asked if method == "GET" and "/api/" not in path]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve, and yield the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if hub.busy:
            hub.busy -= 1
            self._send(429, b"too many requests", {"Retry-After": "0"})
        elif stored := re.fullmatch(r"/stored/(\w{64})", path):
            content = next(
                c
                for r in hub.repositories.values()
                for f in r.files.values()
                for c in f.values()
                if sha(c, "sha256") == stored[1]
            )
            self._send_file(path, content)
        elif api := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/([^/]+)(?:/(.*))?)?)?", path):
            kind, name, what, revision, inside = api.groups()
            self._api(kind, name, what or "", revision, inside)
        elif file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, inside = file.groups()
            self._resolve("datasets" if kind else "models", name, revision, inside)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _find(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and the commit; where there is none, say so as the hub does."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and not self.headers.get("Authorization"):
            self._send(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif (commit := repository.at(revision)) is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository, commit
        return None

    def _api(self, kind: str, name: str, what: str, revision: str | None, inside: str | None) -> None:
        found = self._find(kind, name, revision or "main")
        if found is None:
            return
        repository, commit = found
        files = repository.files[commit]
        if what in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            self._json({"id": name, "sha": commit, "siblings": siblings, "private": False, "gated": repository.gated})
        elif what == "tree":
            self._json(_listed(files, f"{inside}/" if inside else "", "recursive=True" in self.path))
        else:
            self._send(404, b"{}", {})

    def _resolve(self, kind: str, name: str, revision: str, inside: str) -> None:
        found = self._find(kind, name, revision)
        if found is None:
            return
        repository, commit = found
        content = repository.files[commit].get(inside)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(content) < LARGE:
            self._send_file(inside, content, headers | {"ETag": f'"{sha(content)}"'})
            return
        digest = sha(content, "sha256")
        linked = {
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{digest}"',
            "Location": f"http://localhost:{self.server.server_port}/stored/{digest}",
        }
        self._send(302, b"", headers | linked)

    def _send_file(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a file or a part of it; break off in the middle if that is to happen."""
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(part[1]) if part else 0
        end = int(part[2]) + 1 if part and part[2] else len(content)
        more = dict(headers or {})
        if part:
            more["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if self.command == "GET" and path in self.hub.break_off:
            self.hub.break_off.discard(path)
            self.send_response(206 if part else 200)
            for name, value in (more | {"Content-Length": str(end - start)}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[start : (start + end) // 2])
            self.close_connection = True
            return
        self._send(206 if part else 200, content[start:end], more)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _listed(files: Mapping[str, bytes], under: str, deep: bool) -> list[dict[str, Any]]:
    """The entries of a folder, or of all folders in it."""
    below = {path: content for path, content in files.items() if path.startswith(under)}
    folders = {path[:k] for path in below for k, c in enumerate(path) if c == "/" and k > len(under)}
    if not deep:
        below = {path: content for path, content in below.items() if "/" not in path[len(under) :]}
        folders = {path for path in folders if "/" not in path[len(under) :]}
    return [{"type": "directory", "path": path, "size": 0, "oid": sha(path.encode())} for path in sorted(folders)] + [
        _entry(path, content) for path, content in below.items()
    ]


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": sha(content)}
    if len(content) >= LARGE:
        entry["lfs"] = {"oid": sha(content, "sha256"), "size": len(content), "pointerSize": 130}
    return entry
