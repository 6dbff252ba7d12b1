"""HTTP side of the test Hub: routes, access, large files, faults, and a record of what was asked."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from hub_server.faults import Fault
from hub_server.repositories import Repository, git_sha1, is_lfs, sha256

TOKEN = "hf_valid_token_of_the_test"
OTHER_TOKEN = "hf_valid_token_without_access"


@dataclass(frozen=True)
class Asked:
    """A request, and how many bytes of a file its answer carried."""

    line: str
    file_bytes: int


class HubServer:
    """A Hub on this machine; use as a context manager.

    Large files are sent from another host name of the same machine, as from the Hub's storage, so
    the client's rules for redirects and tokens hold.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.static: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.granted = {TOKEN}
        self.closing = threading.Event()
        self._lock = threading.Lock()
        handler = type("BoundHandler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def storage_url(self) -> str:
        """Where large files are."""
        return f"http://localhost:{self._http.server_port}"

    @property
    def file_bytes(self) -> int:
        """Bytes of files sent so far."""
        return sum(asked.file_bytes for asked in self.asked)

    def add(self, repo_id: str, files: dict[str, bytes], **options: bool) -> str:
        """A repository with files in it, or a further commit in one that is there; returns the commit."""
        repository = self.repositories.setdefault(repo_id, Repository(**options))
        for path, content in files.items():
            if is_lfs(path):
                self.objects[sha256(content)] = content
        return repository.commit(dict(files), "add files")

    def record(self, line: str, file_bytes: int = 0) -> None:
        """Note a request."""
        with self._lock:
            self.asked.append(Asked(line, file_bytes))

    def fault_of(self, line: str) -> Fault | None:
        """The fault that hits a request, if any."""
        with self._lock:
            return next((fault for fault in self.faults if fault.applies(line)), None)


class _RefusedError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        super().__init__(status)
        self.status, self.code, self.message, self.url = status, code, message, url


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None
    line = ""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.line = f"{self.command} {unquote(self.path)}"
        self.fault = self.hub.fault_of(self.line)
        if self.fault is not None and self.fault.hang is not None:
            self.hub.record(self.line)
            self.hub.closing.wait(self.fault.hang)
            self.close_connection = True
            return
        try:
            if self.fault is not None and self.fault.status is not None:
                raise _RefusedError(self.fault.status)
            self._route()
        except _RefusedError as refused:
            self._refuse(refused)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _refuse(self, refused: _RefusedError) -> None:
        headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        if self.fault is not None:
            headers |= self.fault.headers
        # the client reads the address out of the refusal to make a repository that is there
        body = json.dumps({"error": refused.message, "url": refused.url}).encode()
        self._send(refused.status, body, {key: value for key, value in headers.items() if value})

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, is_file: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            self.hub.record(self.line)
            return
        if self.fault is not None and self.fault.flip:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if self.fault is not None and self.fault.cut is not None:
            body = body[: self.fault.cut]
            self.close_connection = True
        self.hub.record(self.line, len(body) if is_file else 0)
        self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # ------------------------------------------------------------ routes

    def _route(self) -> None:
        path = urlsplit(self.path).path
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split("|"):
                action(self, *(unquote(group) for group in match.groups()))
                return
        raise _RefusedError(404, message=f"no route for {self.command} {path}")

    def _token(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if token is not None and token not in (TOKEN, OTHER_TOKEN):
            raise _RefusedError(401, message="Invalid credentials in Authorization header")
        return token

    def _repository(self, repo_id: str, *, write: bool = False) -> Repository:
        token = self._token()
        repository = self.hub.repositories.get(repo_id)
        hidden = repository is None or (repository.private and token not in self.hub.granted)
        if repository is None or hidden:
            # as on the Hub, which does not tell strangers whether something exists
            raise _RefusedError(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if repository.gated and token not in self.hub.granted:
            raise _RefusedError(
                401 if token is None else 403, "GatedRepo", "Access to this repo is restricted"
            )
        if write and token not in self.hub.granted:
            raise _RefusedError(401 if token is None else 403, message="You may not write here")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        repository = self._repository(repo_id)
        commit = self._commit_of(repository, revision)
        content = repository.commits[commit].files.get(path)
        if content is None:
            raise _RefusedError(404, "EntryNotFound", f"{path} does not exist")
        headers = {"X-Repo-Commit": commit}
        if not is_lfs(path):
            self._content(content, headers | {"ETag": f'"{git_sha1(content)}"'})
            return
        oid = sha256(content)
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"'}
        self._send(302, b"", headers | {"Location": f"{self.hub.storage_url}/storage/{oid}"})

    def storage(self, oid: str) -> None:
        self._content(self.hub.objects[oid], {"ETag": f'"{oid}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or its rest from where the client left off."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if asked:
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        headers = headers | {"Content-Length": str(len(content) - start)}
        self._send(206 if asked else 200, content[start:], headers, is_file=True)

    def plain(self, name: str) -> None:
        """A file of a host that is no Hub."""
        if name not in self.hub.static:
            raise _RefusedError(404)
        self._send(200, self.hub.static[name], {}, is_file=True)

    def info(self, repo_id: str, revision: str = "main") -> None:
        repository = self._repository(repo_id)
        commit = self._commit_of(repository, revision)
        files = [{"rfilename": path} for path in sorted(repository.commits[commit].files)]
        self._json(
            {"id": repo_id, "sha": commit, "private": repository.private, "siblings": files, "tags": []}
        )

    def tree(self, repo_id: str, revision: str) -> None:
        repository = self._repository(repo_id)
        commit = repository.commits[self._commit_of(repository, revision)]
        entries = []
        for path, content in sorted(commit.files.items()):
            entry: dict[str, Any] = {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": git_sha1(content),
            }
            if is_lfs(path):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def create(self) -> None:
        if self._token() not in self.hub.granted:
            raise _RefusedError(401 if self._token() is None else 403, message="You may not create this")
        wanted = json.loads(self.body)
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        if repo_id in self.hub.repositories:
            raise _RefusedError(409, message="You already created this", url=f"{self.hub.url}/{repo_id}")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[repo_id] = Repository(private=private)
        self._json({"url": f"{self.hub.url}/{repo_id}", "name": repo_id})

    def branch(self, repo_id: str, branch: str) -> None:
        repository = self._repository(repo_id, write=True)
        if branch in repository.branches:
            raise _RefusedError(409, message="Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def validate(self) -> None:
        """As strict as the Hub on what this library writes: metadata there, readable, with known types."""
        content = json.loads(self.body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, flags=re.DOTALL)
        metadata = yaml.safe_load(match[1]) if match else None
        errors, warnings = [], []
        if metadata is None:
            warnings.append({"message": "empty or missing yaml metadata in repo card"})
        elif not isinstance(metadata, dict):
            errors.append({"message": "metadata is no mapping"})
        else:
            errors += [
                {"message": f'"{key}" must be {kind.__name__}'}
                for key, kind in (
                    ("license", str),
                    ("library_name", str),
                    ("tags", list),
                    ("model-index", list),
                )
                if key in metadata and not isinstance(metadata[key], kind)
            ]
            for model in metadata.get("model-index", []):
                for result in model["results"]:
                    if not {"task", "dataset", "metrics"} <= set(result):
                        errors.append({"message": "a result needs task, dataset and metrics"})
        body = json.dumps({"errors": errors, "warnings": warnings}).encode()
        self._send(400 if errors else 200, body, {"Content-Type": "application/json"})

    def preupload(self, repo_id: str, revision: str) -> None:
        repository = self._repository(repo_id, write=True)
        commit = repository.commits[self._commit_of(repository, revision)]
        files = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            known = commit.files.get(path)
            oid = None if known is None else sha256(known) if is_lfs(path) else git_sha1(known)
            mode = "lfs" if is_lfs(path) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def lfs_batch(self, repo_id: str) -> None:
        self._repository(repo_id, write=True)
        answers = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.storage_url}/upload/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.url}/verify/{wanted['oid']}"},
                }
            answers.append(answer)
        self._json({"transfer": "basic", "objects": answers})

    def upload(self, oid: str) -> None:
        if sha256(self.body) != oid:
            raise _RefusedError(400, message="content does not match its name")
        self.hub.objects[oid] = self.body
        self._send(200, b"", {})

    def verify(self, oid: str) -> None:
        if oid not in self.hub.objects:
            raise _RefusedError(404, message="not uploaded")
        self._json({})

    def commit(self, repo_id: str, revision: str) -> None:
        repository = self._repository(repo_id, write=True)
        files: dict[str, bytes | None] = {}
        message = ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                files[value["path"]] = None
        answer: dict[str, Any] = {}
        if parse_qs(urlsplit(self.path).query).get("create_pr"):
            number = 1 + sum(branch.startswith("refs/pr/") for branch in repository.branches)
            oid = repository.commit(files, message, branch=f"refs/pr/{number}", base=revision)
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{number}"
        else:
            oid = repository.commit(files, message, branch=revision)
        self._json({**answer, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid})


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("HEAD|GET", rf"/{_REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("HEAD|GET", r"/storage/([0-9a-f]{64})", _Handler.storage),
    ("GET", r"/static/([^/]+)", _Handler.plain),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/([^/]+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/([^/]+)/?", _Handler.tree),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", rf"/api/models/{_REPO}/branch/([^/]+)", _Handler.branch),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_REPO}/preupload/([^/]+)", _Handler.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/upload/([0-9a-f]{64})", _Handler.upload),
    ("POST", r"/verify/([0-9a-f]{64})", _Handler.verify),
    ("POST", rf"/api/models/{_REPO}/commit/([^/]+)", _Handler.commit),
]
