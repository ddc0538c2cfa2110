"""Files that only their owner may read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def secret_file(file: Path, make: Callable[[], str]) -> str:
    """Return what a file of mode 0600 holds; where there is none it is written first, with what ``make`` returns.

    Of several that write at once the first wins, and all return its content.

    Raises:
        SettingsError: others than its owner may read the file, or it cannot be read.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(make())
        try:
            os.link(draft, file)
        except FileExistsError:
            pass  # another was faster: its content counts
        finally:
            draft.unlink()
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(
            f"{file} holds secrets: expected mode 0600, found {mode:04o}.",
            remedy=f"Make it yours alone: chmod 600 {file}",
        )
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{file} cannot be read: {error}.", remedy="Restore it, or remove it for a new one."
        ) from error
