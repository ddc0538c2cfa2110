"""Remove data that no commit of an archive names, such as what a killed process left behind.

``dvc gc --all-commits`` would do it, but it reads every stage of every commit: 37 s of processor time for sixty
generations, growing with their square, while it holds the lock that archiving waits for. What commits name stands in
the lines that they added to ``dvc.lock``, and git prints these in a tenth of a second.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError
from evodiff.pipeline.archive.commands import PATIENCE_SECONDS
from evodiff.pipeline.archive.entries import LOCK
from evodiff.pipeline.archive.repository import MARKER, Repository, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DIGEST = re.compile(r"\+\s*(?:- )?md5: ([0-9a-f]{32}(?:\.dir)?)\s*")
# Stages have some forty lines: with so many around a change its place in the stage is seen.
_CONTEXT_LINES = 100
_STORED = re.compile(r"[0-9a-f]{30}(?:\.dir)?")


@dataclass(frozen=True)
class Garbage:
    """How many ``files`` of how many bytes no commit names."""

    files: int = 0
    size: int = 0


def collect_garbage(
    archive: Path, *, dry_run: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> Garbage | None:
    """Remove what no commit names from the cache of an archive, and from its remote if that is a folder in it.

    Returns:
        What was removed, or with ``dry_run`` would be; None where there is no archive.

    Raises:
        EvodiffError: the cache lacks a list of files that a commit names, or git does not say what commits name, so
            that nothing can be told; or the lock of the archive stayed held.
    """
    if not (archive / MARKER).exists():
        return None
    with opened(archive, patience_seconds=patience_seconds) as repository:
        named = _named(repository)
        stores = [repository.cache, repository.own_remote]
        left = [path for store in stores for path in _stored(store) if _digest(path) not in named]
        garbage = Garbage(len(left), _size(left))
        if not dry_run:
            for path in left:
                path.unlink()
    return garbage


def _named(repository: Repository) -> set[str]:
    """Return the digests of all data that a commit names, with those in the folders that it names."""
    # No setting or attribute of a person's may change what is printed.
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--text", "--format=")
    patches = repository.commands.git(
        *("log", "--all", "HEAD", "--patch", f"--unified={_CONTEXT_LINES}", "--diff-merges=separate", *plain),
        *("--", LOCK, f":(glob)**/{LOCK}", ":(glob)**/*.dvc"),
    )
    named = set(_added_outputs(patches))
    _check_complete(repository, named)
    folders = [digest for digest in named if digest.endswith(".dir")]
    return named.union(*(_listed(repository, folder) for folder in folders))


def _check_complete(repository: Repository, named: set[str]) -> None:
    """Check what was read out of patches against the last commit's own list."""
    git = repository.commands.git
    text = git("cat-file", "blob", f"HEAD:{LOCK}") if git("ls-tree", "--name-only", "HEAD", "--", LOCK) else ""
    missed = set(_added_outputs("\n".join(f"+{line}" for line in text.splitlines()))) - named
    if missed:
        raise EvodiffError(
            f"Expected git to show what the commits of {repository.path} name, but it leaves out {len(missed)} of the "
            f"data in its last {LOCK}, such as {min(missed)}. Nothing was removed.",
            remedy=f"Find the setting of git that changes patches: git -C {repository.path} log --patch -- {LOCK}",
        )


def _added_outputs(patches: str) -> Iterator[str]:
    """Yield the digests in added lines, but those of dependencies; what cannot be told is taken for an output."""
    output = True
    for line in patches.splitlines():
        text = line[1:].strip()
        if line.startswith("@@") or text == "outs:":
            output = True
        elif text in ("deps:", "params:") or text.startswith("cmd:"):
            output = False
        elif output and (digest := _DIGEST.fullmatch(line)):
            yield digest[1]


def _listed(repository: Repository, folder: str) -> Iterator[str]:
    stored = repository.cache / "files" / "md5" / folder[:2] / folder[2:]
    try:
        yield from (entry["md5"] for entry in json.loads(stored.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvodiffError(
            f"A commit of {repository.path} names the folder {folder}, whose list of files cannot be read: {error}. "
            "Nothing was removed.",
            remedy="Fetch what the archive names: dvc fetch --all-commits",
        ) from error


def _stored(store: Path) -> Iterator[Path]:
    for path in (store / "files" / "md5").glob("[0-9a-f][0-9a-f]/*"):
        if _STORED.fullmatch(path.name):
            yield path


def _size(paths: Sequence[Path]) -> int:
    """Return the bytes that files take together; cache and remote may share one."""
    found = [path.stat() for path in paths]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in found}.values())


def _digest(path: Path) -> str:
    return path.parent.name + path.name
