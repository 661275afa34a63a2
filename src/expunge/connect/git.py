"""Anchors log checkpoints in a git repository, where the log's owner cannot quietly rewrite them once they are pushed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from expunge.core.errors import InputError, StorageError

REF = "refs/expunge/checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAnchor:
    """Checkpoints as commits on a ref of their own (`refs/expunge/checkpoints`); branches and work tree are untouched."""

    repository: Path

    def publish(self, checkpoint: str) -> str:
        """Commit one signed checkpoint; returns the commit id. Pushing the ref is the owner's business."""
        blob = self._git("hash-object", "-w", "--stdin", feed=checkpoint)
        tree = self._git("mktree", feed=f"100644 blob {blob}\tcheckpoint.txt\n")
        parent = self._head()
        origin, size = checkpoint.split("\n")[:2]
        message = f"{origin} at size {size}"
        commit = self._git("commit-tree", tree, *(("-p", parent) if parent else ()), "-m", message)
        self._git("update-ref", REF, commit, parent or "0" * len(commit))
        return commit

    def newest(self) -> str | None:
        """The checkpoint published last, or None."""
        return self._git("show", f"{REF}:checkpoint.txt") + "\n" if self._head() else None

    def _head(self) -> str | None:
        done = self._run("rev-parse", "--verify", "--quiet", REF)
        return done.stdout.strip() or None

    def _git(self, *arguments: str, feed: str = "") -> str:
        done = self._run(*arguments, feed=feed)
        if done.returncode != 0:
            raise StorageError(f"git {arguments[0]} failed", got=done.stderr.strip()[:200])
        return done.stdout.strip()

    def _run(self, *arguments: str, feed: str = "") -> subprocess.CompletedProcess[str]:
        author = ("-c", "user.name=expunge", "-c", "user.email=expunge@localhost", "-c", "commit.gpgsign=false")
        try:
            return subprocess.run(
                ["git", "-C", str(self.repository), *author, *arguments],
                input=feed,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except FileNotFoundError as error:
            raise InputError("git is not installed", hint="install git, or keep checkpoints another way") from error
