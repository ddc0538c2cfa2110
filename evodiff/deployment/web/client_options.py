"""What every HTTP client of ours is made with."""

from __future__ import annotations

from typing import Any


def client_options(url: str, *, token: str | None, timeout_seconds: float, transport: Any) -> dict[str, Any]:
    """Return the arguments of an ``httpx`` client of ``url`` that sends ``token`` as a bearer token."""
    return {
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "timeout": timeout_seconds,
        "transport": transport,
        "verify": url.startswith("https"),  # without TLS nothing is verified, and no certificates are read
    }
