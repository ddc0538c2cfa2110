"""Addresses of MLflow's pages need a server that answers, and are still of use without one."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from evodiff.tracking.pages import generation_page


def test_a_server_that_does_not_answer_gives_its_first_page() -> None:
    with socket.socket() as silent:  # bound, and listening to nobody
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert generation_page(address + "/", "digits", 3) == address
        assert generation_page(address, "digits", 3, pages="http://seen.example/") == "http://seen.example"


def test_the_page_is_where_a_browser_finds_the_server() -> None:
    class Experiments(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = {"digits": "17"}[parse_qs(urlsplit(self.path).query)["experiment_name"][0]]
            body = json.dumps({"experiment": {"experiment_id": number}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Experiments) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        inside = f"http://127.0.0.1:{server.server_port}"
        here = generation_page(inside, "digits", 3)
        elsewhere = generation_page(inside, "digits", 3, pages="http://seen.example:5000/")
        server.shutdown()
    assert here.startswith(f"{inside}/#/experiments/17?searchFilter=")
    assert elsewhere == here.replace(inside, "http://seen.example:5000")
