"""Addresses of MLflow's pages need a server that answers, and are still of use without one."""

from __future__ import annotations

from airflow_site import free_ports

from evodiff.tracking.pages import generation_page


def test_a_server_that_does_not_answer_gives_its_first_page() -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert generation_page(address + "/", "digits", 3) == address
