"""Published weights."""

from __future__ import annotations

import resource
import threading
from typing import TYPE_CHECKING

import pytest
import torch

from evodiff.errors import LedgerError
from evodiff.training import load_weights, save_weights, weights_digest

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {"steps": 3, "loss_curve": [0.1, 1e-7], "genome": {"layers": []}}


def weights(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((2, 3), value), "b": torch.arange(6).view(2, 3).t(), "scalar": torch.tensor(2.0)}


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    digest = save_weights(tmp_path / "runs" / "w", weights(0.1), CONFIG)
    tensors, config = load_weights(tmp_path / "runs" / "w")
    assert config == CONFIG
    assert set(tensors) == set(weights())
    assert all(torch.equal(tensors[name], tensor) for name, tensor in weights(0.1).items())
    assert digest == weights_digest(tmp_path / "runs" / "w")


def test_the_digest_names_the_content_and_not_the_place(tmp_path: Path) -> None:
    first = save_weights(tmp_path / "1", weights(), CONFIG)
    reordered = dict(reversed(weights().items()))
    assert save_weights(tmp_path / "2", reordered, dict(reversed(CONFIG.items()))) == first
    assert save_weights(tmp_path / "3", weights(1.0000001), CONFIG) != first
    assert save_weights(tmp_path / "4", weights(), {**CONFIG, "steps": 4}) != first


def test_the_first_to_publish_wins(tmp_path: Path) -> None:
    first = save_weights(tmp_path / "w", weights(1.0), CONFIG)
    assert save_weights(tmp_path / "w", weights(2.0), CONFIG) == first
    assert load_weights(tmp_path / "w")[0]["a.weight"][0, 0] == 1.0


def test_of_many_twins_one_wins_and_all_agree(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    digests: list[str] = []

    def publish(value: float) -> None:
        together.wait()
        digests.append(save_weights(tmp_path / "w", weights(value), CONFIG))

    threads = [threading.Thread(target=publish, args=(float(value),)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert set(digests) == {weights_digest(tmp_path / "w")}
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "digests.json"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_damage_is_found_on_loading_and_mended_by_the_next_publication(name: str, how: str, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    digest = save_weights(folder, weights(), CONFIG)
    if how == "missing":
        (folder / name).unlink()
    else:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + b"?" + content[-1:])
    with pytest.raises(LedgerError, match="Remove the folder"):
        load_weights(folder)
    assert save_weights(folder, weights(), CONFIG) == digest
    assert load_weights(folder)[1] == CONFIG


def test_missing_weights_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nowhere"):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(LedgerError, match="nowhere"):
        weights_digest(tmp_path / "nowhere")


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".w.0123.tmp").mkdir()
    (tmp_path / ".w.0123.tmp" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".other.0123.tmp").mkdir()
    save_weights(tmp_path / "w", weights(), CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.0123.tmp", "w"]


def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(tmp_path: Path) -> None:
    first = save_weights(tmp_path / "first", weights(), CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))  # files may not grow beyond 16 KiB
    try:
        with pytest.raises(LedgerError, match="Free space and resume"):
            save_weights(tmp_path / "w", {"large": torch.zeros(1 << 16)}, CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert weights_digest(tmp_path / "first") == first


def test_a_file_in_the_folders_place_is_replaced_only_by_hand(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("somebody else's")
    with pytest.raises(LedgerError):
        save_weights(tmp_path / "w", weights(), CONFIG)
    assert (tmp_path / "w").read_text() == "somebody else's"
