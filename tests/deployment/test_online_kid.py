"""What versions serve is sampled and judged by their run's own feature net, beside the serving."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evodiff.data.png import encode_png
from evodiff.deployment.analysis.quality_advice import LEAST_IMAGES, QualityObservation
from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis
from evodiff.deployment.generation import Generated, GenerationRequest, Routing
from evodiff.deployment.observation import Arm
from evodiff.deployment.router import online_kid
from evodiff.deployment.router.offline_kid import offline_kid
from evodiff.deployment.router.online_kid import OnlineKid
from evodiff.deployment.router.subprocesses import run_module
from evodiff.deployment.settings import ServingSettings
from evodiff.deployment.worker.sheets import sheet
from evodiff.pipeline.run import Run

CLASSES = 10
ROLLOUT = "r1"


class Version:
    """What a fleet says of a version that serves, without a worker."""

    def __init__(self, name: str, run_folder: Path | None, kid: float | None = 0.1) -> None:
        self.version, self.run_folder = f"digits/{name}", None if run_folder is None else str(run_folder)
        self.report = SimpleNamespace(kid=kid, image_shape=(8, 8, 1), classes=CLASSES)


class Arms:
    """The arms of a fleet."""

    def __init__(self, **versions: Version) -> None:
        self.answered: list[Any] = []
        self.routing = Routing(ROLLOUT, 0.5)
        self.versions = {Arm(name): version for name, version in versions.items()}

    def version(self, arm: Arm) -> Version | None:
        return self.versions.get(arm)

    def answer(self, arm: Arm, images: NDArray[np.uint8], *, seed: int = 0, **request: Any) -> None:
        """Have an arm answer with images (n, 8, 8, 1), as one sheet; their labels are their seeds'."""
        version, count = self.versions[arm], len(images)
        for hear in self.answered:
            asked = GenerationRequest(count=count, seed=seed, **request)
            hear(
                version, asked, Generated("q", arm, version.version, ROLLOUT, (encode_png(sheet(images)),), *[0.0] * 4)
            )


async def judged_here(module: str, request: Mapping[str, Any], *, seconds: float, given: bytes) -> Any:
    """Judge by the real feature net and reference, without a process of its own."""
    assert module == "evodiff.deployment.router.offline_kid"
    return offline_kid(Path(request["run_folder"]), np.frombuffer(given, np.uint8).reshape(request["shape"]))


def watch(arms: Arms, **settings: Any) -> OnlineKid:
    return OnlineKid(arms, ServingSettings(**settings))  # type: ignore[arg-type]


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


@pytest.fixture
def real(finished_run: Path) -> NDArray[np.uint8]:
    """Real images, (n, 8, 8, 1), the classes in turn."""
    dataset = Run.open(finished_run).dataset()
    assert dataset.labels is not None
    rows = [np.flatnonzero(dataset.labels == label)[: LEAST_IMAGES // CLASSES + 1] for label in range(CLASSES)]
    return dataset.images[np.stack(rows, axis=1).ravel()].transpose(0, 2, 3, 1)


@pytest.mark.e2e
def test_a_canary_that_draws_noise_is_advised_against_from_512_images_on(
    finished_run: Path, real: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_kid, "run_module", judged_here)
    arms = Arms(stable=Version("good", finished_run), canary=Version("bad", finished_run))
    online, heard = watch(arms), list[Mapping[Arm, QualityObservation]]()
    online.told.append(heard.append)
    analysis = RolloutAnalysis(rollout=ROLLOUT, version="digits/bad")

    def advice() -> str:
        asyncio.run(online.sample())
        asyncio.run(online.judge())
        for seen in heard[-1].values():
            analysis.observe(seen)
        return str(analysis.decide(0.0).evidence["kid"]["advice"])

    arms.answer(Arm.STABLE, real)
    arms.answer(Arm.CANARY, noise(100))
    assert advice() == "too few images"
    arms.answer(Arm.CANARY, noise(len(real)))
    assert advice() == "worse"
    stable, canary = (heard[-1][arm] for arm in Arm)
    assert stable.images == canary.images == len(real)
    assert stable.kid + 5 * stable.standard_error < canary.kid - 5 * canary.standard_error
    assert analysis.decide(0.0).verdict != "fail"
    shown = online.view()["arms"]["canary"]
    assert (shown["kid"], shown["sampled"], shown["missing_labels"]) == (canary.kid, len(real), [])

    arms.versions = {Arm.STABLE: arms.versions[Arm.CANARY], Arm.CANARY: Version("bad", finished_run)}  # promoted
    asyncio.run(online.sample())
    assert set(heard[-1]) == {Arm.STABLE}
    assert heard[-1][Arm.STABLE].kid == canary.kid
    assert online.view()["arms"]["canary"]["sampled"] == 0


def test_only_the_usual_setting_of_distinct_images_counts(tmp_path: Path) -> None:
    arms = Arms(stable=Version("one", tmp_path))
    online = watch(arms)
    for changes in ({"steps": 2}, {"guidance": 2.0}):
        arms.answer(Arm.STABLE, noise(20), **changes)
    asyncio.run(online.sample())
    assert online.view()["arms"]["stable"]["sampled"] == 0
    for _ in range(100):
        arms.answer(Arm.STABLE, noise(1), seed=7)
    asyncio.run(online.sample())
    assert online.view()["arms"]["stable"] == {"sampled": 0, "missing_labels": [0, 1, 2, 3, 4, 5, 6, 8, 9]}
    arms.answer(Arm.STABLE, noise(20))
    asyncio.run(online.sample())
    assert online.view()["arms"]["stable"] == {"sampled": 20, "missing_labels": []}


def test_memory_is_bounded_however_much_is_served(tmp_path: Path) -> None:
    arms = Arms(stable=Version("one", tmp_path))
    online = watch(arms, kid_images=64)
    for seed in range(0, 3000, 60):
        arms.answer(Arm.STABLE, noise(60), seed=seed)
    asyncio.run(online.sample())
    assert online.view()["arms"]["stable"]["sampled"] == 70  # a whole number of each class


def test_without_a_reference_it_is_off_and_says_so(tmp_path: Path) -> None:
    arms = Arms(stable=Version("folder", None, kid=None))
    online = watch(arms)
    arms.answer(Arm.STABLE, noise(100))
    asyncio.run(online.sample())
    asyncio.run(online.judge())
    assert "no reference" in online.view()["arms"]["stable"]["off"]
    off = watch(arms, kid_seconds=0)
    assert "EVODIFF_SERVE_KID_SECONDS" in off.view()["off"]
    asyncio.run(off.run())


@pytest.mark.e2e
def test_a_version_without_its_run_keeps_the_other_from_nothing(
    finished_run: Path, real: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_kid, "run_module", judged_here)
    arms = Arms(stable=Version("gone", tmp_path / "no-run"), canary=Version("good", finished_run))
    online = watch(arms)
    for arm in Arm:
        arms.answer(arm, real[:100])
    asyncio.run(online.sample())
    asyncio.run(online.judge())
    shown = online.view()["arms"]
    assert "no reference" in shown["stable"]["trouble"]
    assert "kid" not in shown["stable"]
    assert shown["canary"]["images"] == 100


def test_what_goes_wrong_is_logged_once_and_sampling_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = Arms(stable=Version("lost", None))  # there was a reference when it was loaded
    tried = 0

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal tried
        tried += 1
        return await run_module(*arguments, **options)

    async def story() -> None:
        online = watch(arms, kid_seconds=0.01)
        going = asyncio.create_task(online.run())
        arms.answer(Arm.STABLE, noise(70))
        async with asyncio.timeout(300):
            while tried < 3:
                await asyncio.sleep(0.01)
            arms.answer(Arm.STABLE, noise(10), seed=100)
            while online.view()["arms"]["stable"]["sampled"] < 80:
                await asyncio.sleep(0.01)
        assert not going.done()
        shown = online.view()
        assert "offline_kid ended with 1" in shown["arms"]["stable"]["trouble"]
        assert shown["trouble"] is None
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)

    monkeypatch.setattr(online_kid, "run_module", counted)
    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert len(caplog.records) == 1
