"""Images of a served network: the same in every batch, told apart where they are broken."""

from __future__ import annotations

import socket

import numpy as np
import pytest
import torch
from served_models import write_model

from evodiff.deployment.worker import process
from evodiff.deployment.worker.answers import answer, compute
from evodiff.deployment.worker.batching import Batcher, Job
from evodiff.deployment.worker.frames import receive_frame
from evodiff.deployment.worker.model_checks import check_model_folder
from evodiff.deployment.worker.pixels import blank, finite, to_bytes
from evodiff.deployment.worker.process import ModelWorker
from evodiff.deployment.worker.served_network import ServedNetwork

LARGEST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> ServedNetwork:
    """A small network with weights by chance."""
    folder = write_model(tmp_path_factory.mktemp("model") / "pipeline")
    return ServedNetwork.load(check_model_folder(folder, max_bytes=10**8))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_batching_changes_pixels_by_at_most_a_ten_thousandth(network: ServedNetwork, guidance: float) -> None:
    seeds, labels = [5, 2**62, 17, 5, 900, 3, 4], [1, 2, 3, 1, 0, 9, 9]
    together = network.sample(seeds, labels, steps=10, guidance=guidance)
    for index, (seed, label) in enumerate(zip(seeds, labels, strict=True)):
        alone = network.sample([seed], [label], steps=10, guidance=guidance)
        torch.testing.assert_close(together[index], alone[0], rtol=0, atol=LARGEST_DIFFERENCE)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_the_images_of_a_request_are_those_of_its_seeds_whatever_shares_its_batches(network: ServedNetwork) -> None:
    batcher = Batcher(4)
    jobs = [
        Job("a", 3, 100, 4, 1.0, 7, True, 0.0, 1e9),
        Job("b", 6, 200, 4, 1.0, None, False, 0.0, 1e9),
        Job("c", 1, 300, 4, 1.0, 0, False, 0.0, 1e9),
    ]
    for job in jobs:
        batcher.add(job)
    while batch := batcher.next_batch():
        compute(network, batch)
    for job in jobs:
        labels = [(job.seed + index) % 10 if job.label is None else job.label for index in range(job.count)]
        expected = network.sample(range(job.seed, job.seed + job.count), labels, steps=4, guidance=1.0)
        torch.testing.assert_close(torch.from_numpy(np.stack(job.images)), expected, rtol=0, atol=LARGEST_DIFFERENCE)
        assert 0 < job.last_seconds <= job.compute_seconds
    assert [len(answer(job).header["sizes"]) for job in jobs] == [1, 6, 1]


def test_a_worker_says_while_it_computes_that_it_is_alive(
    network: ServedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = ModelWorker(theirs)
        monkeypatch.setattr(worker, "_network", network)
        monkeypatch.setattr(process, "_ALIVE_SECONDS", 0.0)
        worker._answer([(Job("a", 1, 100, 5, 1.0, 7, True, 0.0, 1e9), 0)])
        kinds = [receive_frame(ours).header["kind"] for _ in range(6)]  # type: ignore[union-attr]
    assert kinds == ["alive"] * 5 + ["done"]


def test_broken_and_blank_images_are_told_apart() -> None:
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    images[1, 0, 3, 3] = torch.inf
    images[2] = torch.tensor([0.5, -0.5, 0.0]).view(3, 1, 1)  # one colour
    images[3] = 5 + torch.rand(3, 8, 8)  # all of it over white
    assert finite(images.numpy()) == [True, False, True, True]
    assert blank(images.numpy()) == [False, False, True, True]


def test_an_answer_of_an_image_that_is_not_finite_has_no_image() -> None:
    job = Job("a", 2, 0, 4, 1.0, None, True, 0.0, 1e9)
    job.images = [np.zeros((1, 8, 8), np.float32), np.full((1, 8, 8), np.nan, np.float32)]
    frame = answer(job)
    assert (frame.header["status"], frame.header["sizes"], frame.body) == ("not_finite", [], b"")


def test_pixels_become_bytes_from_black_to_white() -> None:
    images = np.array([-1.2, -1.0, 0.0, 1.0, 1.2], np.float32).reshape(1, 1, 1, 5)
    assert to_bytes(images).flatten().tolist() == [0, 0, 128, 255, 255]
