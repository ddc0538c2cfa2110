"""Starting and ending services: real processes of a Procfile that pretend to be Airflow and MLflow."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from honcho.environ import parse_procfile

from evodiff.errors import SettingsError
from evodiff.local.demo import addresses
from evodiff.local.environment import Site, free_ports, service_environment
from evodiff.local.services import ServiceError, Started, down, end_sessions, members, started, up, watched

PROJECT = Path(__file__).resolve().parents[2]
SERVICE = Path(__file__).with_name("pretended_service.py")


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


def words(process: psutil.Process) -> list[str]:
    """Return the command line of a process, which may have ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def family(site: Site) -> list[psutil.Process]:
    """Return all processes of the services, once the tasks that two of them keep are there."""
    running = started(site)
    assert running is not None

    def complete() -> list[psutil.Process]:
        found = members(running.ours())
        return found if sum("task" in words(process) for process in found) == 2 else []

    found: list[psutil.Process] = wait_for(complete)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that have not ended."""
    return psutil.wait_procs(processes, timeout=0)[1]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A project whose services are pretended, databases and login being there; nothing is left of it."""
    site = Site(tmp_path / "home", tmp_path, *free_ports(2))
    command = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(SERVICE))}"
    (tmp_path / "Procfile").write_text(
        f"airflow: {command} $EVODIFF_AIRFLOW_PORT\nmlflow: {command} $EVODIFF_MLFLOW_PORT\n"
    )
    site.passwords.parent.mkdir(parents=True)
    site.passwords.write_text(json.dumps({"admin": "secret"}))
    versions = {name: version(name) for name in ("apache-airflow", "mlflow")}
    (site.home / "migrated.json").write_text(json.dumps(versions))
    yield site
    down(site)


def test_what_listens_is_named_and_what_does_not_is_not(site: Site) -> None:
    bare = "\n".join(addresses(site))
    assert "Router" not in bare
    assert "secret" in bare
    assert f"http://127.0.0.1:{site.airflow_port}" in bare
    whole = "\n".join(addresses(replace(site, router_port=8099)))
    assert "http://127.0.0.1:8099/docs" in whole
    assert str(site.home / "serve" / "tokens.json") in whole


def test_what_was_started_is_ended_even_where_its_parents_were_killed(site: Site) -> None:
    assert up(site, print)
    assert not up(site, print)
    processes = family(site)
    for process in processes:
        if "between" in words(process):
            process.kill()
    assert down(site)
    assert alive(processes) == []
    assert started(site) is None
    assert not down(site)


def test_services_whose_holder_was_killed_are_ended(site: Site) -> None:
    assert up(site, print)
    processes, holder = family(site), started(site)
    assert holder is not None
    os.kill(holder.process_id, signal.SIGKILL)
    wait_for(lambda: not holder.alive())
    assert alive(processes) != []
    assert down(site)
    assert alive(processes) == []


def test_services_are_started_anew_where_their_holder_was_killed(site: Site) -> None:
    assert up(site, print)
    processes, holder = family(site), started(site)
    assert holder is not None
    os.kill(holder.process_id, signal.SIGKILL)
    wait_for(lambda: not holder.alive())
    lines: list[str] = []
    assert up(site, lines.append)
    assert alive(processes) == []
    assert any("what was left" in line for line in lines)


@pytest.mark.parametrize(("moved_seconds", "ours"), [(5.0, True), (-5.0, True), (100_000.0, False), (-1e9, False)])
def test_a_process_is_known_again_after_the_clock_was_set_and_never_mistaken(
    tmp_path: Path, moved_seconds: float, ours: bool
) -> None:
    site = Site(tmp_path, tmp_path, *free_ports(2))
    sleeper = subprocess.Popen([sys.executable, SERVICE, "task"], start_new_session=True)
    try:
        created = psutil.Process(sleeper.pid).create_time() + moved_seconds
        (site.home / "up.json").write_text(json.dumps({"process_id": sleeper.pid, "created": created}))
        assert Started(sleeper.pid, created).alive() is ours
        assert down(site) is ours
        assert (sleeper.poll() is not None) is ours
    finally:
        sleeper.kill()
        sleeper.wait()


def test_what_does_not_listen_to_being_asked_is_killed() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(3600)"
    deaf = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    assert end_sessions({deaf.pid}, grace_seconds=0.2)
    assert not psutil.pid_exists(deaf.pid)
    assert not end_sessions({deaf.pid})
    deaf.stdout.close()
    deaf.wait()


def test_a_service_that_ends_at_once_leaves_nothing_behind(site: Site) -> None:
    with (site.project / "Procfile").open("a") as file:
        file.write(f"broken: while [ ! -e {shlex.quote(str(site.project / 'end'))} ]; do sleep 0.1; done; exit 3\n")
    site.passwords.unlink()  # so that it is never ready
    failed: list[BaseException] = []

    def start() -> None:
        try:
            up(site, print)
        except ServiceError as error:
            failed.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    wait_for(lambda: started(site) is not None)
    processes = family(site)
    (site.project / "end").touch()
    thread.join()
    assert "The services ended while" in str(failed[0])
    assert alive(processes) == []
    assert started(site) is None


def test_tasks_whose_session_nobody_has_seen_are_ended_though_all_above_them_are_dead(site: Site) -> None:
    assert up(site, print)
    processes = family(site)
    running = started(site)
    assert running is not None
    content = json.loads((site.home / "up.json").read_text())
    above = [process for process in processes if not {"between", "task"} & set(words(process))]
    for process in above:
        process.kill()
    wait_for(lambda: not alive(above))
    (site.home / "up.json").write_text(json.dumps({**content, "sessions": {}}))
    assert down(site)
    assert alive(processes) == []


def test_two_that_start_the_same_services_at_once_start_them_once(site: Site) -> None:
    began: list[bool] = []
    threads = [threading.Thread(target=lambda: began.append(up(site, print))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(began) == [False, True]
    log = site.log.read_text()
    assert log.count("airflow.1 started") == 1


def test_a_port_that_is_taken_is_named(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.mlflow_port))
        taken.listen()
        with pytest.raises(ServiceError, match=f"Port {site.mlflow_port} is taken"):
            up(site, print)
    assert started(site) is None


def test_the_file_of_the_containers_variables_is_not_read(site: Site) -> None:
    (site.project / ".env").write_text("EVODIFF_AIRFLOW_PORT=1\nEVODIFF_MLFLOW_PORT=1\n")
    assert up(site, print)


def test_prometheus_and_alertmanager_are_left_out_where_they_are_not_installed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(site, prometheus_port=free_ports(1)[0], alertmanager_port=free_ports(1)[0])
    monkeypatch.setattr("evodiff.local.services.monitoring_programs", dict)
    lines: list[str] = []
    left = watched(asked, lines.append)
    assert (left.prometheus_port, left.alertmanager_port) == (0, 0)
    assert "not installed" in lines[0]
    assert watched(site, lines.append) == site
    assert len(lines) == 1


def test_only_what_has_a_port_of_its_own_can_be_left_out() -> None:
    off = {"EVODIFF_PROMETHEUS_PORT": "0", "EVODIFF_METRICS_PORT": "0"}
    site = Site.from_environment(off, PROJECT)
    assert (site.prometheus_port, site.metrics_port, site.alertmanager_port) == (0, 0, 9093)
    with pytest.raises(SettingsError, match="EVODIFF_MLFLOW_PORT"):
        Site.from_environment({"EVODIFF_MLFLOW_PORT": "0"}, PROJECT)


def test_a_service_without_a_port_sleeps_and_one_that_ends_is_begun_again(tmp_path: Path) -> None:
    commands = parse_procfile((PROJECT / "Procfile").read_text()).processes
    begun = tmp_path / "begun"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(begun))}\nexit 1\n')
    program.chmod(0o755)
    environment = {**os.environ, "EVODIFF_PROMETHEUS": str(program), "EVODIFF_HOME": "a-home"}
    for port, expected in (("0", 0), ("9999", 2)):
        service = subprocess.Popen(
            ["/bin/sh", "-c", commands["prometheus"]],
            env={**environment, "EVODIFF_PROMETHEUS_PORT": port},
            start_new_session=True,
        )
        try:
            if expected:
                wait_for(lambda: begun.exists() and len(begun.read_text().splitlines()) >= 2)
            else:
                wait_for(lambda leader=service.pid: any("sleep" in words(child) for child in members({leader})))
        finally:
            end_sessions({service.pid})
            service.wait()
    for argument in ("127.0.0.1:9999", "a-home/prometheus/data", "retention.time", "retention.size"):
        assert argument in begun.read_text()


def test_every_listener_of_the_procfile_is_on_loopback() -> None:
    for name, command in parse_procfile((PROJECT / "Procfile").read_text()).processes.items():
        listens = re.findall(r"(?:--host|--web.listen-address=?)[ =]*(\S*)", command)
        assert all(address.startswith("127.0.0.1") for address in listens), name


def test_an_empty_port_means_the_default_for_the_services_too() -> None:
    empty = {"EVODIFF_AIRFLOW_PORT": "", "EVODIFF_MLFLOW_PORT": "5050"}
    site = Site.from_environment(empty, PROJECT)
    assert (site.airflow_port, site.mlflow_port) == (8080, 5050)


def test_the_services_get_the_ports_of_their_site(site: Site) -> None:
    environment = service_environment(site, {"EVODIFF_AIRFLOW_PORT": "", "EVODIFF_MLFLOW_PORT": ""})
    assert environment["EVODIFF_AIRFLOW_PORT"] == str(site.airflow_port)
    assert environment["EVODIFF_MLFLOW_PORT"] == str(site.mlflow_port)


def test_nobody_else_can_look_into_the_folder_of_the_services(site: Site) -> None:
    site.home.chmod(0o755)
    service_environment(site, {})
    assert site.home.stat().st_mode & 0o777 == 0o700
    service_environment(Site(site.project / "new", site.project, 8080, 5000), {})
    assert (site.project / "new").stat().st_mode & 0o777 == 0o700


def test_mlflow_is_begun_again_when_it_ends(tmp_path: Path) -> None:
    command = parse_procfile((PROJECT / "Procfile").read_text()).processes["mlflow"]
    begun = tmp_path / "begun"
    program = tmp_path / "mlflow"
    program.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(begun))}\nexit 1\n')
    program.chmod(0o755)
    names = ("EVODIFF_MLFLOW_PORT", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION")
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **{name: f"a-{name}" for name in names}}
    service = subprocess.Popen(["/bin/sh", "-c", command], env=environment, start_new_session=True)
    try:
        wait_for(lambda: begun.exists() and len(begun.read_text().splitlines()) >= 2)
    finally:
        end_sessions({service.pid})
        service.wait()
    assert all(f"a-{name}" in begun.read_text() for name in names)
