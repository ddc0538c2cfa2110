"""The small DVC project in which new generations are committed before they move into the archive.

DVC reads and writes the whole ``dvc.lock`` for every command, in pure Python: half a minute for three hundred
generations. A project that holds the new stages alone costs the same for every generation, and leaves the archive's
working copy alone until everything is pushed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evodiff.pipeline.archive.entries import Entries, read_lock, write_entries

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.pipeline.archive.repository import Repository


@dataclass(frozen=True)
class Staging:
    """A DVC project in ``path`` that lists nothing yet; it shares cache and remote with the archive."""

    path: Path
    archive: Repository

    @classmethod
    def create(cls, archive: Repository) -> Staging:
        """Create an empty one in place of what a killed process may have left."""
        path = staging_folder(archive)
        shutil.rmtree(path, ignore_errors=True)
        (path / ".dvc").mkdir(parents=True)
        shutil.copyfile(archive.path / ".dvc" / "config", path / ".dvc" / "config")
        (path / ".dvc" / "config.local").write_text(_config(archive), encoding="utf-8")
        shutil.copyfile(archive.path / "dvc.yaml", path / "dvc.yaml")
        return cls(path, archive)

    def commit(self, entries: Entries) -> dict[str, str]:
        """Have DVC take the outputs of what ``entries`` list, and push them; return their part of ``dvc.lock``."""
        write_entries(self.path, entries)
        commands = replace(self.archive.commands, folder=self.path)
        commands.dvc("commit", "--force", "--quiet")
        commands.dvc("push", "--quiet")
        self.archive.share_remote()
        return read_lock(self.path)

    def move(self, name: str) -> None:
        """Move a file or folder to the same place in the archive, over what a killed process may have left there."""
        source, target = self.path / name, self.archive.path / name
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)


def staging_folder(archive: Repository) -> Path:
    """Return where the staging of an archive is, while there is one."""
    return archive.path / ".dvc" / "tmp" / "staging"


def _config(archive: Repository) -> str:
    return f"""\
[core]
    no_scm = true
    site_cache_dir = "{archive.path / ".dvc" / "tmp" / "site"}"
[cache]
    dir = "{archive.cache}"
"""
