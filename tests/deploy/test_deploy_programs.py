"""The small programs of deploy/: secrets for .env, and the question whether a service is healthy."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


new_env = load("new_env")


def test_empty_variables_get_a_secret_each_and_the_rest_stays() -> None:
    example = "# A_PASSWORD=\n\nFIRST_PASSWORD=\nSECOND_PASSWORD=\nAIRFLOW_FERNET_KEY=\nPORT=8080\n"
    lines = new_env.filled(example).splitlines()
    assert lines[:2] == ["# A_PASSWORD=", ""]
    assert lines[5] == "PORT=8080"
    first, second, fernet = (line.split("=", 1)[1] for line in lines[2:5])
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    assert re.fullmatch(r"[0-9a-f]{64}", second)
    assert first != second
    assert len(base64.urlsafe_b64decode(fernet)) == 32


def test_the_file_of_secrets_is_its_owners_and_never_written_over(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("A_PASSWORD=\n")
    file = new_env.write_env(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    written = file.read_text()
    with pytest.raises(FileExistsError):
        new_env.write_env(tmp_path)
    assert file.read_text() == written


class Health(BaseHTTPRequestHandler):
    """Answers as Airflow does about its parts; ``/down`` with a status that says no."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/down" else 200)
        self.end_headers()
        self.wfile.write(
            json.dumps({"good": {"status": "healthy"}, "bad": {"status": "unhealthy"}, "no": None}).encode()
        )

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked(*arguments: str) -> int:
    return subprocess.run([sys.executable, DEPLOY / "healthy.py", *arguments], timeout=60).returncode


def test_a_service_is_healthy_if_it_says_so(address: str) -> None:
    assert asked(f"{address}/ok") == 0
    assert asked(f"{address}/ok", "good") == 0


@pytest.mark.parametrize("arguments", [("/down",), ("/ok", "bad"), ("/ok", "no"), ("/ok", "unknown")])
def test_a_service_is_not_healthy_otherwise(address: str, arguments: tuple[str, ...]) -> None:
    path, *part = arguments
    assert asked(f"{address}{path}", *part) == 1


def test_nobody_listening_is_not_healthy(address: str) -> None:
    assert asked("http://127.0.0.1:1/") == 1
