"""Short-lived processes that the router starts: JSON in an argument, a line of JSON back, a bound on their time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from evodiff.deployment.smoke_report import LoadingFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

_TAIL = 500


async def run_module(module: str, request: Mapping[str, Any], *, seconds: float, given: bytes = b"") -> Any:
    """Run ``python -m MODULE REQUEST`` with ``given`` on its standard input; return the last line it prints, as JSON.

    Raises:
        LoadingFailed: it failed, or took more than ``seconds``.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        json.dumps(request),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(seconds):
            out, log = await process.communicate(given)
    except TimeoutError as error:
        raise LoadingFailed(
            f"{module}: expected an answer in {seconds:g} s, found none.", remedy="Raise EVODIFF_SERVE_LOAD_SECONDS."
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise LoadingFailed(
            f"{module} ended with {process.returncode}: {log.decode(errors='replace')[-_TAIL:].strip()}",
            remedy="Mend what it names, and load the version again.",
        )
    return json.loads(out.splitlines()[-1])
