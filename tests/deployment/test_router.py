"""A router and two workers, as users start them: what they answer, and to whom."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from router_process import FOR_OTHERS, SIGNING_KEY, USE, RouterProcess, bearer
from served_models import write_model

from evodiff.deployment.web.signing import REQUEST_FIELDS, Signer
from evodiff.deployment.worker.model_checks import check_model_folder
from evodiff.deployment.worker.pixels import to_bytes
from evodiff.deployment.worker.served_network import ServedNetwork

pytestmark = pytest.mark.e2e

GENERATE = "/v1/generate"
WAITING_SECONDS = 200.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what is stable."""
    return write_model(tmp_path_factory.mktemp("models") / "stable", seed=1)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[RouterProcess]:
    """Two versions, each with half of the clients; clients have a second to send what they want."""
    canary = write_model(model.parent / "canary", seed=2)
    arguments = (model, "--canary", canary, "--canary-weight", 0.5)
    with RouterProcess(
        tmp_path_factory.mktemp("router"),
        *arguments,
        header_seconds=1,
        body_seconds=1,
        backoff_seconds=0.1,
        loading_niceness=1,
    ) as process:
        yield process


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + WAITING_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: never"
        time.sleep(0.05)


def pixels(png: bytes) -> np.ndarray:
    """Read a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)))


def test_images_are_those_of_the_model_that_the_answer_names(router: RouterProcess, model: Path) -> None:
    with router.client() as client:
        answer = client.post(GENERATE, json={"count": 3, "seed": 5, "steps": 4, "label": 2}).raise_for_status().json()
    assert [image["seed"] for image in answer["images"]] == [5, 6, 7]
    folder = model.parent / answer["version"].partition("/")[0]
    network = ServedNetwork.load(check_model_folder(folder, max_bytes=10**8))
    expected = to_bytes(network.sample([5, 6, 7], [2, 2, 2], steps=4, guidance=1.0).numpy())[..., 0]
    for image, wanted in zip(answer["images"], expected, strict=True):
        found = pixels(base64.b64decode(image["png"]))
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1  # a rounding may tip over


def test_accept_chooses_between_json_and_one_png_of_all(router: RouterProcess) -> None:
    body = {"count": 3, "seed": 1, "steps": 4}
    with router.client() as client:
        sheet = client.post(GENERATE, json=body, headers={"Accept": "image/png, application/json;q=0.5"})
        single = client.post(GENERATE, json=body).json()["images"]
    assert sheet.headers["content-type"] == "image/png"
    found = pixels(sheet.content)
    assert found.shape == (16, 16)
    tiles = [found[:8, :8], found[:8, 8:], found[8:, :8]]
    for tile, image in zip(tiles, single, strict=True):
        assert np.abs(tile.astype(int) - pixels(base64.b64decode(image["png"])).astype(int)).max() <= 1
    assert not found[8:, 8:].any()


def test_headers_say_who_answered_under_a_signature(router: RouterProcess) -> None:
    with router.client() as client:
        answers = [client.post(GENERATE, json={"steps": 2}) for _ in range(3)]
    signed = [Signer(SIGNING_KEY).verify(answer.headers["x-request-id"]) for answer in answers]
    assert all(set(fields) == set(REQUEST_FIELDS) for fields in signed)
    assert [fields["version"] for fields in signed] == [answer.headers["x-model-version"] for answer in answers]
    assert len({fields["request"] for fields in signed}) == 3
    assert len({(fields["arm"], fields["client"]) for fields in signed}) == 1  # a client stays in its arm
    assert USE not in str(signed)


def test_clients_that_an_application_names_are_clients_of_their_own(router: RouterProcess) -> None:
    with router.client() as client:

        def ask(token: str, name: str) -> httpx.Response:
            headers = {**bearer(token), "X-Client-Id": name}
            return client.post(GENERATE, json={"steps": 2}, headers=headers)

        answers = {name: ask(FOR_OTHERS, name) for name in (f"user-{number}" for number in range(16))}
        again = ask(FOR_OTHERS, "user-0")
        refused = [ask(USE, "user-0"), *(ask(FOR_OTHERS, name) for name in ("", "a b", "x" * 129))]
    assert [answer.status_code for answer in refused] == [403, 422, 422, 422]
    assert "scope 'clients'" in refused[0].text
    verify = Signer(SIGNING_KEY).verify
    found = {name: verify(answer.headers["x-request-id"]) for name, answer in answers.items()}
    assert len({fields["client"] for fields in found.values()}) == 16
    assert {fields["arm"] for fields in found.values()} == {"stable", "canary"}  # one client in 2^15 times is not so
    same = verify(again.headers["x-request-id"])
    assert (same["client"], same["arm"]) == (found["user-0"]["client"], found["user-0"]["arm"])


def test_guidance_changes_images_and_asks_for_classes_that_are_there(router: RouterProcess) -> None:
    with router.client() as client:
        plain, guided = (
            client.post(GENERATE, json={"steps": 4, "label": 3, "guidance": scale}).json()["images"] for scale in (1, 3)
        )
        unknown = client.post(GENERATE, json={"label": 10})
    assert plain != guided
    assert unknown.status_code == 422
    assert "0 to 9" in unknown.json()["detail"]


@pytest.mark.parametrize("how", ["field", "header"])
def test_a_deadline_that_has_no_chance_ends_in_504(router: RouterProcess, how: str) -> None:
    body: dict[str, float] = {"count": 64, "steps": 100}
    headers = {"X-Deadline-Seconds": "0.05"} if how == "header" else {}
    with router.client() as client:
        answer = client.post(GENERATE, json=body | ({} if headers else {"deadline_seconds": 0.05}), headers=headers)
    assert answer.status_code == 504
    assert "0.05 s" in answer.json()["detail"]


def test_a_client_that_leaves_takes_its_request_back(router: RouterProcess) -> None:
    def refused() -> float:
        metrics = httpx.get(f"{router.url}/metrics").text
        lines = [
            line for line in metrics.splitlines() if line.startswith("evodiff_requests_total") and "refused" in line
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = refused()
    with router.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(GENERATE, json={"count": 64, "steps": 100}, timeout=0.3)
    wait_for(lambda: refused() > before, "the request taken back")


def test_a_worker_that_is_killed_is_replaced_and_no_request_is_lost(router: RouterProcess) -> None:
    assert router.process is not None
    children = psutil.Process(router.process.pid).children()
    with router.client() as client:
        for victim in children:
            victim.kill()
            for _ in range(3):
                client.post(GENERATE, json={"steps": 2}).raise_for_status()
            wait_for(lambda: len(workers_up(router)) == 2 and all(workers_up(router)), "both workers again")
    assert not {child.pid for child in children} & {
        child.pid for child in psutil.Process(router.process.pid).children()
    }


def workers_up(router: RouterProcess) -> list[bool]:
    """Return of each arm whether its worker lives."""
    lines = httpx.get(f"{router.url}/metrics").text.splitlines()
    return [line.endswith(" 1.0") for line in lines if line.startswith("evodiff_worker_up{")]


def test_health_and_metrics_are_open_and_all_else_asks_for_a_token(router: RouterProcess) -> None:
    paths = httpx.get(f"{router.url}/openapi.json", headers=bearer()).raise_for_status().json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            for headers in ({}, bearer("wrong"), {"Authorization": "Basic YTpi"}):
                status = httpx.request(method, router.url + path, headers=headers).status_code
                assert (status != 401) == (path in ("/healthz", "/readyz", "/metrics", "/rate")), (path, method)
    for path in ("/docs", "/openapi.json", "/nothing", "//metrics", "/metrics/../v1/generate", "/METRICS"):
        assert httpx.get(router.url + path).status_code == 401, path
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True}


def raw(router: RouterProcess, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes piece by piece, and return all that comes back until the router closes."""
    with socket.create_connection(("127.0.0.1", router.port), timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break  # closed already
            time.sleep(pause)
        received = b""
        try:
            while chunk := connection.recv(4096):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def test_headers_and_bodies_that_do_not_come_are_not_waited_for(router: RouterProcess) -> None:
    start = f"POST {GENERATE} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    assert raw(router, start).startswith(b"HTTP/1.1 408")
    assert raw(router, b"").startswith(b"HTTP/1.1 408")
    drops = [b"X-A: 1\r\n"] * 30
    assert raw(router, start, *drops, pause=0.1).startswith(b"HTTP/1.1 408")
    slow = start + f"Authorization: Bearer {USE}\r\nContent-Length: 20\r\n\r\n{{".encode()
    assert raw(router, slow).startswith(b"HTTP/1.1 408")
    chunked = start + f"Authorization: Bearer {USE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert raw(router, chunked, *[b"1\r\n \r\n"] * 30, pause=0.1).startswith(b"HTTP/1.1 408")
    assert raw(router, start, b"X-A: " + b"a" * 200_000).startswith(b"HTTP/1.1 431")
    assert raw(router, b"\x16\x03\x01 no HTTP at all\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{router.url}/healthz").status_code == 200


@pytest.mark.slow
def test_it_ends_when_asked_and_leaves_nothing_behind(tmp_path: Path, model: Path) -> None:
    with RouterProcess(tmp_path, model) as router:
        assert router.process is not None
        children = psutil.Process(router.process.pid).children(recursive=True)
        assert router.end() == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_cannot_be_served_ends_in_a_line_that_says_why(tmp_path: Path, model: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "signing.key").write_text("k" * 64)
    (tmp_path / "secrets" / "signing.key").chmod(0o644)
    with pytest.raises(RuntimeError, match="holds secrets") as caught, RouterProcess(tmp_path, model, signing_key=None):
        pass
    assert "Traceback" not in str(caught.value)
    (model / "pytorch_model.bin").write_bytes(b"")
    try:
        with pytest.raises(RuntimeError, match="may hold code") as caught, RouterProcess(tmp_path / "other", model):
            pass
    finally:
        (model / "pytorch_model.bin").unlink()
    assert "Traceback" not in str(caught.value)
