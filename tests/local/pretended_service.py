"""Stands for Airflow and MLflow at once: answers that it is well, ``python pretended_service.py PORT``.

It keeps a child as a task of Airflow keeps one: through a process in between, the last of them in a group of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WELL = {name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")}
ANSWERS = {
    "/health": {},
    "/auth/token": {"access_token": "of no worth"},
    "/api/v2/monitor/health": WELL,
    "/api/v2/dags": {"dags": [{"dag_id": "evolve_architecture", "is_paused": False}]},
    "/api/v2/pools": {},
}


class Handler(BaseHTTPRequestHandler):
    """Answers every request with what is known of its path."""

    def do_GET(self) -> None:
        """Answer a question."""
        self.answer()

    def do_POST(self) -> None:
        """Answer a request for something to be made."""
        self.answer()

    def answer(self) -> None:
        """Read everything, then send what is known."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = json.dumps(ANSWERS[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def keep_a_task() -> None:
    """Start a process that starts a process; what they print goes elsewhere, as that of Airflow's tasks does."""
    subprocess.Popen([sys.executable, __file__, "between"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    if sys.argv[1] == "task":
        time.sleep(3600)
    elif sys.argv[1] == "between":
        subprocess.Popen([sys.executable, __file__, "task"], process_group=0).wait()
    else:
        keep_a_task()
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
