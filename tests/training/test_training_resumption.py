"""A training that is cut, killed or promoted ends with the bytes of one that ran through."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import small_denoiser
from small_denoiser import CLASSES, SmallDenoiser, small_images, small_labels

from evodiff.errors import Interrupted, LedgerError, TrialFailure
from evodiff.sampling.noise import NoiseSchedule
from evodiff.settings import TrainingSettings
from evodiff.training import load_checkpoint, train
from evodiff.training.state import tensors_digest

if TYPE_CHECKING:
    from evodiff.training import TrainingResult

STEPS = 12
SEED = 7


def trained(*, steps: int = STEPS, seed: int = SEED, network_seed: int = 1, **arguments: Any) -> TrainingResult:
    return train(
        SmallDenoiser(network_seed),
        small_images(),
        small_labels(),
        TrainingSettings(batch_size=8, warmup_steps=3),
        seed=seed,
        schedule=NoiseSchedule.named("linear"),
        last_step=steps,
        classes=CLASSES,
        **arguments,
    )


def bytes_of(result: TrainingResult) -> tuple[str, str, list[float]]:
    return tensors_digest(result.ema_weights), tensors_digest(result.state.tensors), result.loss_curve


@pytest.fixture(scope="module")
def straight() -> tuple[str, str, list[float]]:
    return bytes_of(trained())


def cut_after(checkpoint: Path, steps: int, **arguments: Any) -> None:
    asked = itertools.count()
    with pytest.raises(Interrupted, match=f"after step {steps} of"):
        trained(checkpoint=checkpoint, should_stop=lambda: next(asked) == steps, **arguments)


@pytest.mark.parametrize("cut", [0, 1, 5, STEPS - 1])
def test_cut_and_gone_on_is_the_same_bytes(cut: int, tmp_path: Path, straight: object) -> None:
    checkpoint = tmp_path / "deep" / "trial.safetensors"
    cut_after(checkpoint, cut)
    done: list[int] = []
    result = trained(checkpoint=checkpoint, should_stop=lambda: done.append(0) is not None)
    assert bytes_of(result) == straight
    assert len(done) == STEPS - cut


def test_checkpoints_themselves_change_nothing(tmp_path: Path, straight: object) -> None:
    assert bytes_of(trained(checkpoint=tmp_path / "c", checkpoint_every=0.0)) == straight
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_killed_at_any_moment_and_gone_on_is_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "trial.safetensors"
    program = [sys.executable, str(Path(small_denoiser.__file__)), str(checkpoint)]
    for _ in range(2):  # the second process goes on where the first was killed
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(6):
                process.stdout.readline()
            process.kill()
    first, second = trained(steps=40, checkpoint=checkpoint), trained(steps=40)
    assert bytes_of(first) == bytes_of(second)


def test_from_a_lower_rung_to_a_higher_one_is_the_same_bytes(straight: object, tmp_path: Path) -> None:
    low = trained(steps=5)
    assert bytes_of(trained(state=low.state)) == straight
    checkpoint = tmp_path / "c"
    trained(steps=5, checkpoint=checkpoint)
    done: list[int] = []
    assert bytes_of(trained(checkpoint=checkpoint, should_stop=lambda: done.append(0) is not None)) == straight
    assert len(done) == STEPS - 5


def test_a_promoted_trial_cut_in_the_middle_is_the_same_bytes(straight: object, tmp_path: Path) -> None:
    state = trained(steps=5).state
    asked = itertools.count()
    with pytest.raises(Interrupted, match="after step 8 of"):
        trained(state=state, checkpoint=tmp_path / "c", should_stop=lambda: next(asked) == 3)
    assert bytes_of(trained(state=state, checkpoint=tmp_path / "c")) == straight


def test_a_state_beyond_the_last_step_is_refused() -> None:
    with pytest.raises(ValueError, match="5 steps, more than the 4"):
        trained(steps=4, state=trained(steps=5).state)


def test_a_finished_training_is_not_repeated(straight: object, tmp_path: Path) -> None:
    trained(checkpoint=tmp_path / "c")
    done: list[int] = []
    assert bytes_of(trained(checkpoint=tmp_path / "c", should_stop=lambda: done.append(0) is not None)) == straight
    assert done == []


def test_a_shorter_training_leaves_the_checkpoint_of_a_longer_one(tmp_path: Path) -> None:
    trained(checkpoint=tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    assert bytes_of(trained(steps=5, checkpoint=tmp_path / "c")) == bytes_of(trained(steps=5))
    assert (tmp_path / "c").read_bytes() == content


def damaged(content: bytes, how: str) -> bytes:
    if how == "cut off":
        return content[: len(content) // 2]
    if how == "one bit":
        return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    return {"empty": b"", "other": b"not a checkpoint at all"}[how]


@pytest.mark.parametrize("how", ["cut off", "one bit", "empty", "other"])
def test_a_damaged_checkpoint_costs_its_steps_and_leaves_a_note(how: str, tmp_path: Path, straight: object) -> None:
    checkpoint = tmp_path / "trial.safetensors"
    cut_after(checkpoint, 5)
    checkpoint.write_bytes(damaged(checkpoint.read_bytes(), how))
    heard: list[dict[str, Any]] = []
    assert bytes_of(trained(checkpoint=checkpoint, report=heard.append)) == straight
    assert "trial.safetensors" in heard[0]["note"]
    assert "training starts again" in heard[0]["note"]


@pytest.mark.parametrize("foreign", [{"seed": SEED + 1}, {"network_seed": 2}])
def test_another_trials_checkpoint_is_not_gone_on_from(
    foreign: dict[str, int], tmp_path: Path, straight: object
) -> None:
    cut_after(tmp_path / "c", 5, **foreign)
    heard: list[dict[str, Any]] = []
    assert bytes_of(trained(checkpoint=tmp_path / "c", report=heard.append)) == straight
    assert "belongs to another training" in heard[0]["note"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".c.0123.tmp").write_bytes(b"half")
    assert load_checkpoint(tmp_path / "c", "any") == (None, "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="resume"):
        trained(checkpoint=tmp_path / "file" / "c")


def test_who_was_to_be_stopped_early_is_stopped_after_going_on_too() -> None:
    low = trained(steps=6)
    messages = []
    for arguments in ({}, {"state": low.state}):
        with pytest.raises(TrialFailure) as caught:
            trained(reference_curve=[1e-3] * 20, **arguments)
        messages.append(caught.value.detail)
    assert messages[0] == messages[1]
