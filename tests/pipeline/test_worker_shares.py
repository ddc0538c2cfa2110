"""How much memory a worker may take: its share, whether the others are of its own pool or of other tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from told_runs import new_run

from evodiff.pipeline.generation import plan
from evodiff.pipeline.session import open_workers
from evodiff.pipeline.shards import deal_shards, evaluate_shard, train_shard
from evodiff.settings import Settings


class Opened(Exception):  # noqa: N818 - no error: it ends the work where a pool is opened
    """A pool was to be opened so."""

    def __init__(self, workers: int, **options: Any) -> None:
        super().__init__(workers, options)
        self.workers, self.options = workers, options


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1000 MB where pools are not opened, only asked for."""

    def refuse(workers: int, **options: Any) -> None:
        raise Opened(workers, **options)

    monkeypatch.setattr("evodiff.pipeline.session.WorkerPool", refuse)
    monkeypatch.setattr("evodiff.pipeline.session.physical_memory_mb", lambda: 1000.0)


@pytest.mark.parametrize(("at_most", "workers"), [(None, 4), (1, 1), (2, 2), (9, 4)])
def test_fewer_workers_get_no_larger_share_of_the_memory(at_most: int | None, workers: int) -> None:
    with pytest.raises(Opened) as opened, open_workers(Settings(workers=4), print, at_most=at_most):
        pass
    assert opened.value.workers == workers
    assert opened.value.options["memory_limit_mb"] == 200.0
    assert opened.value.options["device_memory_share"] == 0.225


@pytest.mark.parametrize("work_on", [train_shard, evaluate_shard])
def test_shards_that_run_at_once_share_the_memory(
    work_on: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVODIFF_WORKERS", "4")
    run = new_run(tmp_path / "run")
    plan(run, 0)
    shards = deal_shards(run, 0)
    assert len(shards) == 4
    for shard in shards:
        with pytest.raises(Opened) as opened:
            work_on(run, 0, shard["shard"], print)
        assert opened.value.workers == 1
        assert opened.value.options["memory_limit_mb"] == 200.0
