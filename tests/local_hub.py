"""A hub on this machine: the few calls of its HTTP API that pushing and fetching small files take."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Hub(ThreadingHTTPServer):
    """One repository of each kind, someone/neon: `files` of the model, `data` of the data set.

    The model's is not there until it is created, which sets `private`; creating it again changes nothing.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubCalls)
        self.files: dict[str, bytes] = {}
        self.data: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.private: bool | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def commit(self) -> str:
        return hashlib.sha1("".join(sorted(self.files)).encode()).hexdigest()


class HubCalls(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(sent))
            if self.server.private is None:
                self.server.private = self.server.created[-1]["visibility"] == "private"
            self.answer({"url": f"{self.server.address}/someone/neon"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(sent)["files"]
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.address}/someone/neon/commit/1", "commitOid": self.server.commit})
        else:
            self.answer({}, 404)

    def do_GET(self) -> None:
        path, commit = self.path.partition("?")[0], self.server.commit
        files = self.server.data if "/datasets/" in path else self.server.files
        name = path.partition(f"/resolve/{commit}/")[2]
        if name in files:
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self.answer(files[name], ETag=etag, X_Repo_Commit=commit)
        elif "/tree/" in path:
            self.answer([{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in files.items()])
        elif path.startswith("/api/datasets/someone/neon") or (
            path.startswith("/api/models/someone/neon") and self.server.private is not None
        ):
            about = {"id": "someone/neon", "modelId": "someone/neon", "private": self.server.private}
            self.answer({**about, "sha": commit, "siblings": [{"rfilename": file} for file in files]})
        else:
            self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def call(hub: Hub, home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose hub is ours."""
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_TOKEN": "hf_none"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=120)
