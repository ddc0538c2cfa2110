"""Tell by the exit code whether a service is healthy: ``healthy.py URL [PART]``.

URL has to answer with 200; where a PART is named, as in Airflow's ``/api/v2/monitor/health``, the JSON has to say that
its ``status`` is ``healthy``.
"""

from __future__ import annotations

import json
import sys
from urllib.error import URLError
from urllib.request import urlopen

SECONDS = 5.0


def healthy(url: str, part: str | None = None) -> bool:
    """Ask ``url`` and judge the answer."""
    try:
        with urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - the address comes from docker-compose.yaml
            content = answer.read()
        return part is None or (json.loads(content).get(part) or {}).get("status") == "healthy"
    except (URLError, OSError, ValueError, AttributeError):
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(*sys.argv[1:]) else 1)
