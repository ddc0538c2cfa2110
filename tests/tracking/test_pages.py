"""Addresses of MLflow's pages need a server that answers, and are still of use without one."""

from __future__ import annotations

import socket

from evodiff.tracking.pages import generation_page


def test_a_server_that_does_not_answer_gives_its_first_page() -> None:
    with socket.socket() as silent:  # bound, and listening to nobody
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert generation_page(address + "/", "digits", 3) == address
