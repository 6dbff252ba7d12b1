"""Repositories as the server keeps them: commits of files, branches that point at them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

# what the Hub's .gitattributes sends to LFS by default, as far as this library writes such files
LFS_SUFFIXES = (".safetensors",)


def git_sha1(content: bytes) -> str:
    """Name of a file's content in git, the etag of small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    """Name of a file's content in LFS, the linked etag of large files."""
    return hashlib.sha256(content).hexdigest()


def is_lfs(path: str) -> bool:
    """Whether the Hub keeps a file in LFS."""
    return path.endswith(LFS_SUFFIXES)


@dataclass(frozen=True)
class Commit:
    """Files by path, and the message they came with."""

    files: dict[str, bytes]
    message: str
    parent: str | None

    @property
    def oid(self) -> str:
        """40 hexadecimal digits that stand for content, message and history."""
        digest = hashlib.sha1(f"{self.message}\0{self.parent}".encode())
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + git_sha1(content).encode())
        return digest.hexdigest()


@dataclass
class Repository:
    """A repository.

    Attributes:
        private: hidden from requests without a valid token.
        gated: readable only by tokens in ``HubServer.granted``.
        commits: by their name.
        branches: branch to commit; pull requests are ``refs/pr/1`` and so on.
    """

    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit(
            {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit"
        )

    def commit(
        self, files: dict[str, bytes | None], message: str, *, branch: str = "main", base: str | None = None
    ) -> str:
        """Add, replace or (with None) delete files on a branch; returns the new commit's name."""
        parent = self.branches.get(base or branch)
        content: dict[str, bytes] = dict(self.commits[parent].files) if parent else {}
        for path, body in files.items():
            if body is None:
                content.pop(path, None)
            else:
                content[path] = body
        commit = Commit(content, message, parent)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def resolve(self, revision: str) -> str | None:
        """Commit of a branch, or the commit itself."""
        if revision in self.commits:
            return revision
        return self.branches.get(revision)
