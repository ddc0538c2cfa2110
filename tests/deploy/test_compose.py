"""docker-compose.yaml, deploy/ and .env.example agree with each other and keep to what a deployment has to.

There is no Docker engine in these tests: what they see is the parsed file, and the commands that it names.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from evodiff.local.environment import PORTS, Site, service_environment

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (PROJECT / "deploy" / "Dockerfile").read_text()
EXAMPLE = dict(
    line.split("=", 1)
    for line in (PROJECT / ".env.example").read_text().splitlines()
    if "=" in line and not line.startswith("#")
)
OURS = {name for name, service in SERVICES.items() if "build" in service}
ONE_SHOT = {name for name, service in SERVICES.items() if service["restart"] == "no"}

# ${NAME}, ${NAME:-default} or ${NAME:?message}
REFERENCE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|KEY|FERNET|TOKEN")


def each_service(*, but: Collection[str] = ()) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(set(SERVICES) - set(but)))


def test_it_holds_airflow_mlflow_postgresql_a_store_and_what_serves_and_watches() -> None:
    assert set(SERVICES) - ONE_SHOT == {
        "postgres",
        "store",
        "mlflow",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "router",
        "metrics",
        "prometheus",
        "alertmanager",
    }


@each_service(but=ONE_SHOT)
def test_every_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@each_service()
def test_services_wait_for_health_and_for_the_end_of_one_shots(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert how["condition"] == expected


@pytest.mark.parametrize("one_shot", sorted(ONE_SHOT))
def test_something_waits_for_every_one_shot(one_shot: str) -> None:
    assert any(one_shot in service.get("depends_on", {}) for service in SERVICES.values())


@each_service()
def test_images_are_pinned_to_an_exact_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", SERVICES[name]["image"])


def test_our_image_has_the_version_of_the_package() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"evodiff-pipeline:{version}"}


@each_service()
def test_services_run_as_somebody_else_than_root_and_write_only_where_something_is_mounted(name: str) -> None:
    service = SERVICES[name]
    assert str(service["user"]).split(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert "network_mode" not in service


@each_service()
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_databases_and_objects_are_reached_from_inside_only() -> None:
    assert "ports" not in SERVICES["postgres"]
    assert "ports" not in SERVICES["store"]
    assert SERVICES["postgres"]["networks"] == ["databases"]
    assert SERVICES["store"]["networks"] == ["objects"]
    for network in ("databases", "objects"):
        assert COMPOSE["networks"][network] == {"internal": True}


def test_only_s3_listens_outside_the_store() -> None:
    command = SERVICES["store"]["command"]
    assert "-ip.bind=127.0.0.1" in command
    assert "-s3.ip.bind=0.0.0.0" in command


def test_every_variable_is_in_the_example_and_every_variable_of_the_example_is_used() -> None:
    assert {match["name"] for match in REFERENCE.finditer(TEXT)} == set(EXAMPLE)


def test_secrets_are_asked_for_and_have_no_default() -> None:
    for match in REFERENCE.finditer(TEXT):
        if SECRET.search(match["name"]):
            assert match["kind"] == ":?"
            assert match["rest"] == f"set {match['name']} in .env"
        else:
            assert match["kind"] == ":-"
            assert match["rest"] == EXAMPLE[match["name"]]
    assert {name for name, value in EXAMPLE.items() if not value} == {name for name in EXAMPLE if SECRET.search(name)}


@each_service()
def test_no_password_is_written_down(name: str) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        text = str(value)
        if re.search(r"PASSWORD|SECRET|FERNET|ACCESS_KEY", variable):
            assert REFERENCE.fullmatch(text), variable
        if "://" in text and "@" in text:
            assert re.search(r":\$\{\w+:\?[^}]*\}@", text), variable


def test_everything_mounted_is_declared_or_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (PROJECT / source).exists()
        assert set(service["networks"]) <= set(COMPOSE["networks"])


def test_airflow_has_logins_and_does_not_keep_its_records_in_a_file() -> None:
    for name in OURS - {"mlflow", "init-mlflow", "router", "metrics"}:
        environment = SERVICES[name]["environment"]
        assert environment["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")
        assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql+psycopg2://airflow:")
    mlflow = SERVICES["mlflow"]["environment"]
    assert mlflow["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://mlflow:")
    assert mlflow["MLFLOW_ARTIFACTS_DESTINATION"] == f"s3://{mlflow['ARTIFACTS_BUCKET']}"
    archive = SERVICES["scheduler"]["environment"]["EVODIFF_ARCHIVE_REMOTE"]
    assert archive.startswith(f"s3://{mlflow['ARCHIVE_BUCKET']}/")


def test_tasks_get_the_variables_that_they_get_on_one_machine(tmp_path: Path) -> None:
    local = service_environment(Site(tmp_path / "home", tmp_path, 8080, 5000), {})
    only_local = {
        *PORTS,  # of the Procfile
        "EVODIFF_HOME",
        "EVODIFF_SERVE_SECRETS_DIR",  # the router has its secrets from .env
        "EVODIFF_SERVE_GALLERIES",  # of the router's container
        "AIRFLOW_HOME",  # of the image
        "PATH",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",  # of the other login
        "MLFLOW_BACKEND_STORE_URI",  # of the server's container
        "MLFLOW_ARTIFACTS_DESTINATION",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    }
    given = {**SERVICES["mlflow"]["environment"], **SERVICES["scheduler"]["environment"]}
    assert set(local) - set(SERVICES["scheduler"]["environment"]) == only_local & set(local)
    unchanging = ("MLFLOW_", "DVC_", "GX_", "OMP_", "AIRFLOW__CORE__LOAD_EXAMPLES", "AIRFLOW__CORE__EXECUTOR")
    for name, value in local.items():
        if name.startswith(unchanging) and "URI" not in name and "DESTINATION" not in name:
            assert str(given[name]) == value, name


def test_what_tasks_keep_lies_on_volumes() -> None:
    scheduler = SERVICES["scheduler"]
    mounted = [volume.split(":")[1] for volume in scheduler["volumes"]]
    places = ("RUNS_DIR", "RELEASE_FILE", "FEEDBACK_STORE", "ARCHIVE", "CACHE_DIR")
    for name in (f"EVODIFF_{place}" for place in places):
        path = scheduler["environment"][name]
        assert any(path == place or path.startswith(f"{place}/") for place in mounted), name
    assert scheduler["environment"]["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] in mounted


def test_the_router_and_the_tasks_share_release_votes_and_runs() -> None:
    router, scheduler = SERVICES["router"], SERVICES["scheduler"]
    for name in ("RUNS_DIR", "RELEASE_FILE", "FEEDBACK_STORE", "TRACKING_URI"):
        assert router["environment"][f"EVODIFF_{name}"] == scheduler["environment"][f"EVODIFF_{name}"]
    assert set(router["volumes"]) <= set(scheduler["volumes"])
    assert "scale" not in router
    assert "deploy" not in router  # a second one would rule the same release


def test_the_router_starts_with_its_variables_and_lets_in_who_has_the_token(tmp_path: Path) -> None:
    given = {"ROUTER_TOKEN": "0" * 64, "ROUTER_SIGNING_KEY": "1" * 64}
    environment = {
        name: REFERENCE.sub(lambda match: given[match["name"]], value)
        for name, value in SERVICES["router"]["environment"].items()
    }
    settings = subprocess.run(
        [sys.executable, "-c", READ_SETTINGS], env=environment, check=True, capture_output=True, text=True
    )
    hosts, subject, scopes = json.loads(settings.stdout)
    connection = urlsplit(REFERENCE.sub(lambda match: given[match["name"]], connections()["ROUTER"]))
    assert connection.password == given["ROUTER_TOKEN"]
    assert connection.hostname in hosts
    assert (subject, scopes) == ("owner", ["release", "use"])


READ_SETTINGS = """
import json
from evodiff.deployment.settings import load_serving_settings
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.tokens import Tokens

settings = load_serving_settings({})
Signer.from_settings(settings)
caller = Tokens.from_settings(settings).caller("Bearer " + "0" * 64)
print(json.dumps([settings.allowed_hosts, caller.subject, sorted(caller.scopes)]))
"""


def connections() -> dict[str, str]:
    """The connections of ours that tasks and triggers have."""
    start = "AIRFLOW_CONN_EVODIFF_"
    found = [SERVICES[name]["environment"] for name in ("scheduler", "triggerer")]
    first, second = (
        {key.removeprefix(start): value for key, value in variables.items() if key.startswith(start)}
        for variables in found
    )
    assert first == second
    return first


def port_of(name: str) -> int:
    """The port that a service listens on, by its command."""
    words = " ".join(SERVICES[name]["command"])
    found = re.search(r"(?:--port |--web.listen-address=0\.0\.0\.0:)(\d+)", words)
    assert found is not None
    return int(found[1])


def test_who_watches_is_told_where_the_others_listen() -> None:
    told = [
        *(REFERENCE.sub("x", text) for text in connections().values()),
        *SERVICES["prometheus"]["environment"].values(),
    ]
    addresses = [urlsplit(text if "://" in text else f"//{text}") for text in told]
    assert {address.hostname for address in addresses} == {"router", "metrics", "alertmanager"}
    for address in addresses:
        assert address.port == port_of(str(address.hostname))
    for name in ("router", "prometheus", "alertmanager"):
        (published,) = SERVICES[name]["ports"]
        assert published.endswith(f":{port_of(name)}")
    for name in ("scheduler", "triggerer", "router", "metrics", "prometheus", "alertmanager"):
        assert "serving" in SERVICES[name]["networks"]
    triggerer = SERVICES["triggerer"]
    assert f"runs:{triggerer['environment']['EVODIFF_RUNS_DIR']}" in triggerer["volumes"]


def test_prometheus_starts_with_its_addresses_filled_in(tmp_path: Path) -> None:
    service = SERVICES["prometheus"]
    mounted = {target: source for source, target, _ in (item.split(":") for item in service["volumes"][1:])}
    shown = tmp_path / "shown.sh"
    shown.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shown.chmod(0o755)
    environment = {
        **service["environment"],
        "PATH": "/usr/bin:/bin",
        "RULES": str(PROJECT / mounted["/etc/evodiff/rules"]),
        "TEMPLATE": str(PROJECT / mounted["/etc/evodiff/prometheus.yml"]),
        "DATA": str(tmp_path),
        "PROMETHEUS": str(shown),
    }
    script = PROJECT / mounted[service["entrypoint"][-1]]
    started = subprocess.run(
        ["/bin/sh", script, *service["command"]], env=environment, check=True, capture_output=True, text=True
    )
    assert started.stdout.split()[0] == f"--config.file={tmp_path}/prometheus.yml"
    assert started.stdout.split()[2:] == service["command"]
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    targets = [job["static_configs"][0]["targets"] for job in config["scrape_configs"]]
    assert targets == [["router:8090"], ["metrics:9108"]]
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert config["rule_files"] == [f"{environment['RULES']}/*.yml"]
    if (promtool := shutil.which("promtool")) is not None:
        subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)


def test_the_image_is_installed_under_the_constraints_with_what_the_dags_need() -> None:
    assert 'grep -v "^python-dateutil==" constraints.txt > /tmp/constraints.txt' in DOCKERFILE
    assert "--constraint /tmp/constraints.txt" in DOCKERFILE
    assert "'.[pipeline]'" in DOCKERFILE
    instructions = [
        line.split() for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    copied = {source for words in instructions for source in words[1:-1]}
    assert {"evodiff", "dags", "plugins", "pyproject.toml", "constraints.txt"} <= copied
    for source in copied:
        assert (PROJECT / source).exists(), source
    assert DOCKERFILE.rstrip().splitlines()[-1] == f"USER {SERVICES['scheduler']['user']}"


def test_python_and_its_packages_are_pinned_in_the_image() -> None:
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"pip install [^&]*uv==\d+\.\d+\.\d+ ", DOCKERFILE)
    constraints = pins("constraints.txt")
    for name, version in pins("deploy/requirements.txt").items():
        # What constraints.txt says of the same package is left out by the Dockerfile.
        assert constraints.get(name, version) == version or f'"^{name}=="' in DOCKERFILE


def pins(file: str) -> dict[str, str]:
    lines = (PROJECT / file).read_text().splitlines()
    found = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\S+", line) for line in found)
    return dict(line.split("==") for line in found)


def test_nothing_but_what_the_dockerfile_copies_goes_to_the_engine() -> None:
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.split("/")[0]
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert allowed == copied


def test_scripts_that_are_named_are_there_and_are_copied_into_the_image() -> None:
    for name in OURS:
        service = SERVICES[name]
        for word in [*service["command"], *service.get("healthcheck", {}).get("test", [])]:
            if str(word).startswith("deploy/"):
                assert (PROJECT / word).exists()
                assert word in DOCKERFILE


def script_commands(script: str) -> list[list[str]]:
    """The commands of a shell script that call Airflow or MLflow, variables as they stand."""
    text = (PROJECT / "deploy" / script).read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith(("airflow ", "mlflow "))]


def test_airflow_and_mlflow_know_the_commands_and_options() -> None:
    started = [SERVICES[name]["command"] for name in sorted(OURS)]
    commands = [command for command in started if command[0] in ("airflow", "mlflow")]
    commands += script_commands("init_airflow.sh") + script_commands("init_mlflow.sh")
    # `users` comes with the provider for logins, which only the image has.
    known = [command for command in commands if command[:2] != ["airflow", "users"]]
    assert len(known) == 8
    subprocess.run([sys.executable, "-c", PARSE, json.dumps(known)], check=True, timeout=300)


PARSE = """
import json, sys
import click
from airflow.cli.cli_parser import get_parser
from mlflow.cli import cli

for program, *arguments in json.loads(sys.argv[1]):
    if program == "airflow":
        get_parser().parse_args(arguments)
    else:
        command, context = cli, None
        while isinstance(command, click.Group):
            command, name = command.get_command(context, arguments[0]), arguments.pop(0)
        command.make_context(name, arguments)
"""


@pytest.mark.parametrize("script", ["init_airflow.sh", "init_mlflow.sh", "init_databases.sh", "start_prometheus.sh"])
def test_scripts_are_shell(script: str) -> None:
    subprocess.run(["sh", "-n", PROJECT / "deploy" / script], check=True)


def test_compose_accepts_the_file_where_there_is_one(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("this Docker client has no compose")
    (tmp_path / "secrets.env").write_text("\n".join(f"{name}={value or 'x'}" for name, value in EXAMPLE.items()))
    base = [docker, "compose", "--file", str(PROJECT / "docker-compose.yaml")]
    subprocess.run([*base, "--env-file", str(tmp_path / "secrets.env"), "config", "--quiet"], check=True)
    (tmp_path / "empty.env").touch()
    refused = subprocess.run(
        [*base, "--env-file", str(tmp_path / "empty.env"), "config", "--quiet"], capture_output=True
    )
    assert refused.returncode != 0
    assert b"in .env" in refused.stderr
