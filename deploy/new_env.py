"""Write ``.env`` for docker-compose.yaml out of ``.env.example``: what has no value there gets a random secret."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def filled(example: str) -> str:
    """Return the lines of an example with secrets in place of what is empty."""
    return "".join(_filled_line(line) for line in example.splitlines(keepends=True))


def write_env(folder: Path) -> Path:
    """Write ``folder/.env``, readable by its owner alone.

    Raises:
        FileExistsError: there is one; databases may have been made with its passwords.
    """
    target = folder / ".env"
    text = filled((folder / ".env.example").read_text(encoding="utf-8"))
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return target


def _filled_line(line: str) -> str:
    name, separator, value = line.partition("=")
    if name.startswith("#") or not separator or value.strip():
        return line
    # Fernet wants 32 bytes in this alphabet; hexadecimal digits need no quotes anywhere, not even in a database's URL.
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() if "FERNET" in name else secrets.token_hex(32)
    return f"{name}={secret}\n"


if __name__ == "__main__":
    try:
        print(write_env(PROJECT))
    except FileExistsError:
        sys.exit(
            "There is a .env already. Its passwords are those of your databases; remove it only with their volumes."
        )
