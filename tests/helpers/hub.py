"""A stand-in of the Hub: a small HTTP server that takes commits and gives files, as much of its API as push and from_pretrained use."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


@dataclass
class Hub:
    """What the server holds: files by repository and path, large ones by hash; the token that it takes."""

    address: str
    token: str = "hf_test"
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    """The API; `hub` is set by `serving`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing is written to the terminal."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        body, path = self.body(), self.path.partition("?")[0]
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.json({"error": "Invalid credentials"}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.files.setdefault(name, {})
            private = asked.get("private") or asked.get("visibility") == "private"
            self.hub.private.setdefault(name, bool(private))
            return self.json({"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            return self.json(
                {
                    "files": [
                        {
                            "path": each["path"],
                            "uploadMode": "lfs"
                            if each["path"].endswith(".safetensors")
                            else "regular",
                            "shouldIgnore": False,
                        }
                        for each in json.loads(body)["files"]
                    ]
                }
            )
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            upload = {each["oid"]: f"{self.hub.address}/objects/{each['oid']}" for each in asked}
            objects = [
                {**each, "actions": {"upload": {"href": upload[each["oid"]]}}} for each in asked
            ]
            return self.json({"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
            address = f"{self.hub.address}/{match[1]}/commit/{COMMIT}"
            return self.json({"success": True, "commitOid": COMMIT, "commitUrl": address})
        return self.json({"error": f"no {path}"}, 404)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[name][value["path"]] = self.hub.objects[value["oid"]]

    def do_PUT(self) -> None:
        body = self.body()
        digest = hashlib.sha256(body).hexdigest()
        assert self.path.endswith(digest)
        self.hub.objects[digest] = body
        self.answer(200)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            files = self.hub.files.get(match[1])
            if files is None:
                return self.json({"error": "Repository not found"}, 404)
            listed = [{"rfilename": name} for name in files]
            return self.json(
                {
                    "id": match[1],
                    "modelId": match[1],
                    "sha": COMMIT,
                    "private": self.hub.private[match[1]],
                    "siblings": listed,
                }
            )
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            files = self.hub.files[match[1]]
            tree = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                }
                for name, content in files.items()
            ]
            return self.json(tree)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self.hub.files[match[1]].get(match[2])
            if content is None:
                return self.answer(404, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            size = str(len(content))
            return self.answer(200, content, ETag=etag, X_Repo_Commit=COMMIT, Content_Length=size)
        return self.json({"error": f"no {path}"}, 404)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of this machine."""

    class Own(Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    Own.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Own.hub
    finally:
        server.shutdown()
        server.server_close()
