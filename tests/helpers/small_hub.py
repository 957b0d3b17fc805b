"""A hub on the loopback address, as small as its clients can do with: revisions, trees, files, and refusals."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """The files of each revision. `refuses`: the status and the hub's error code with which every request is refused.
    `seconds`: how long each answer is delayed."""

    revisions: dict[str, dict[str, bytes]]
    refuses: tuple[int, str] | None = None
    seconds: float = 0.0
    lfs: bool = False
    """Whether its files lie elsewhere, to which the hub redirects."""


@dataclass
class Hub:
    """Its address, its repositories by name, and the paths that it was asked for."""

    address: str
    repositories: dict[str, Repository]
    asked: list[str] = field(default_factory=list)


def commit(revision: str) -> str:
    """The commit that a revision stands for."""
    return hashlib.sha1(revision.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def error(self, status: int, code: str) -> None:
        self.answer(status, json.dumps({"error": code}).encode(), X_Error_Code=code, X_Error_Message=code)

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(path)
        elsewhere = re.fullmatch(r"/elsewhere/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path)
        if elsewhere:
            files = self.files(self.hub.repositories[elsewhere[1]], elsewhere[2])
            assert files is not None
            return self.answer(200, files[elsewhere[3]], ETag=f'"{hashlib.sha256(files[elsewhere[3]]).hexdigest()}"')
        name = re.match(r"(?:/api)?/datasets/([^/]+/[^/]+)", path)
        if name is None:
            return self.error(404, "EntryNotFound")
        found = self.hub.repositories.get(name[1])
        if found is None:
            return self.error(404, "RepoNotFound")
        time.sleep(found.seconds)
        if found.refuses is not None:
            return self.error(*found.refuses)
        return self.of_repository(name[1], found, path[name.end() :], sent)

    @staticmethod
    def files(found: Repository, revision: str) -> dict[str, bytes] | None:
        return next((x for name, x in found.revisions.items() if revision in (name, commit(name))), None)

    def of_repository(self, name: str, found: Repository, rest: str, sent: bytes) -> None:
        asked = re.fullmatch(r"/(revision|tree|resolve|paths-info)/(refs/convert/parquet|[^/]+)(?:/(.*))?", rest)
        kind, revision, file = asked.groups() if asked else ("revision", "main", None)
        files = self.files(found, revision)
        if files is None:
            return self.error(404, "RevisionNotFound")
        sha = revision if re.fullmatch("[0-9a-f]{40}", revision) else commit(revision)
        if kind == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self.say(
                {"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            )
        if kind == "tree":
            inside = {path: data for path, data in files.items() if not file or path.startswith(f"{file}/")}
            folders = {"/".join(path.split("/")[:depth]) for path in inside for depth in range(1, path.count("/") + 1)}
            return self.say([_folder(path) for path in sorted(folders)] + [_entry(*item) for item in inside.items()])
        if kind == "paths-info":
            wanted = json.loads(sent)["paths"] if sent.startswith(b"{") else []
            folders = [p for p in wanted if p not in files and any(f.startswith(f"{p}/") for f in files)]
            return self.say([_entry(p, files[p]) for p in wanted if p in files] + [_folder(p) for p in folders])
        if file not in files:
            return self.error(404, "EntryNotFound")
        etag = {"ETag": f'"{hashlib.sha256(files[file]).hexdigest()}"', "X-Repo-Commit": sha}
        if not found.lfs:
            return self.answer(200, files[file], **etag)
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost")  # another host, to the hub's clients
        linked = {"X-Linked-Etag": etag["ETag"], "X-Linked-Size": str(len(files[file]))}
        return self.answer(302, Location=f"{elsewhere}/elsewhere/{name}/{sha}/{file}", **etag, **linked)


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": commit(path), "size": 0}


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}


@contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Inside, the hub answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", repositories)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
