"""Folders that may not be served are refused before anything of them is loaded."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from served_models import SHAPE, write_model

from evodiff.architecture.genome import ImageShape
from evodiff.deployment.release.entries import check_entry, entry_of, version_name
from evodiff.deployment.worker.model_checks import ModelRefused, check_model_folder
from evodiff.deployment.worker.served_network import ServedNetwork
from evodiff.errors import CandidateNotFound

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
MOST = 10**7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that may be served."""
    return write_model(tmp_path / "pipeline")


def header_of(file: Path) -> tuple[dict[str, dict[str, object]], bytes]:
    """Return header and data of a file of safetensors."""
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(file: Path, change: Callable[[dict[str, dict[str, object]]], object], data: bytes | None = None) -> None:
    """Change the header of a file of safetensors, and leave the data."""
    header, found = header_of(file)
    change(header)
    content = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(content)) + content + (found if data is None else data))


def change_json(file: Path, **fields: object) -> None:
    """Change fields of a file of JSON."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def first(header: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return the entry of the tensor whose data come first."""
    return next(entry for entry in header.values() if entry.get("data_offsets", [None])[0] == 0)


def refused(folder: Path, **options: str) -> str:
    """Return why a folder is refused."""
    with pytest.raises(ModelRefused) as caught:
        check_model_folder(folder, max_bytes=MOST, **options)
    return caught.value.headline


def test_a_folder_as_evodiff_exports_it_is_served_with_its_digest(folder: Path) -> None:
    model = check_model_folder(folder, max_bytes=MOST)
    assert (model.shape, model.prediction, model.noise_schedule) == (SHAPE, "v_prediction", "linear")
    assert check_model_folder(folder, max_bytes=MOST, digest=model.digest) == model
    assert ServedNetwork.load(model).classes == 10
    assert "SHA-256" in refused(folder, digest="0" * 64)


@pytest.mark.parametrize(
    "name", ["unet/pytorch_model.bin", "data.pkl", "unet/x.pt", "code.py", "unet/deep/a.ckpt", "x"]
)
def test_a_file_that_may_hold_code_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(print))
    assert "may hold code" in refused(folder)


def test_a_pickle_under_the_name_of_the_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"network.stem.weight": [1.0] * 1000}))
    assert "a header of" in refused(folder)


def test_links_devices_depth_and_size_are_refused(folder: Path) -> None:
    (folder / "link.json").symlink_to("/etc/passwd")
    assert "a link or a device" in refused(folder)
    (folder / "link.json").unlink()
    os.mkfifo(folder / "pipe.json")
    assert "a link or a device" in refused(folder)
    (folder / "pipe.json").unlink()
    (folder / "a" / "b" / "c").mkdir(parents=True)
    assert "a link or a device" in refused(folder)
    (folder / "a" / "b" / "c").rmdir()
    with (folder / "large.safetensors").open("wb") as stream:
        stream.truncate(MOST + 1)
    assert f"at most {MOST} bytes" in refused(folder)
    (folder / "large.safetensors").unlink()
    for number in range(50):
        (folder / f"{number}.json").touch()
    assert "at most 32 files" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 200_000, b'{"a": NaN' + b" " * 2**21], ids=len)
def test_a_configuration_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "unet" / "config.json").write_bytes(content)
    assert "config.json" in refused(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"_class_name": "UNet2DModel"},
        {"sample_size": 10**9},
        {"sample_size": "8"},
        {"sample_size": True},
        {"in_channels": 0},
        {"out_channels": 3},
        {"classes": -1},
        {"genome": None},
        {"genome": {"layers": [{"component": "__import__"}]}},
        {"sample_size": 4, "genome": {"format": 1}},
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused(folder: Path, fields: dict[str, object]) -> None:
    change_json(folder / "unet" / "config.json", **fields)
    assert "is not served: expected" in refused(folder)


def test_a_sampler_that_is_not_known_is_refused(folder: Path) -> None:
    change_json(folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    assert "'sample'" in refused(folder)
    change_json(folder / "scheduler" / "scheduler_config.json", prediction_type=["epsilon"])
    assert "prediction" in refused(folder)


def test_a_header_that_lies_is_refused(folder: Path) -> None:
    file = folder / WEIGHTS
    honest = file.read_bytes()
    header, data = header_of(file)

    def with_entry(**fields: object) -> str:
        rewrite(file, lambda found: first(found).update(fields))
        why = refused(folder)
        file.write_bytes(honest)
        return why

    assert "a header of" in _with(file, struct.pack("<Q", 2**63) + honest[8:], folder)
    assert "a header of" in _with(file, struct.pack("<Q", len(honest)) + honest[8:], folder)
    assert "a header of" in _with(file, honest[:6], folder)
    assert "header" in _with(file, struct.pack("<Q", 2) + b"[]", folder)
    assert "as its header says" in _with(file, honest + b"\0", folder)
    assert "as its header says" in _with(file, honest[:-4], folder)
    file.write_bytes(honest)
    assert "float32" in with_entry(dtype="F64")
    assert "float32" in with_entry(shape=[2**40, 2**40])
    assert "float32" in with_entry(shape=[-1])
    assert "float32" in with_entry(shape="1")
    assert "float32" in with_entry(data_offsets=[0, 2**60])
    assert "float32" in with_entry(data_offsets=[0])
    assert "to begin at byte" in with_entry(data_offsets=[4, 4 + first(header)["data_offsets"][1]])
    rewrite(file, lambda found: found.pop(next(name for name in found if name != "__metadata__")))
    assert "to begin at byte" in refused(folder)
    twice = json.dumps(header)[:-1] + ', "network.stem.bias": {}}'
    assert "twice" in _with(file, struct.pack("<Q", len(twice)) + twice.encode() + data, folder)


def _with(file: Path, content: bytes, folder: Path) -> str:
    file.write_bytes(content)
    return refused(folder)


def test_weights_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", shape=ImageShape(channels=3, size=8, classes=10))
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    assert "parameters, as its genome makes" in refused(folder)


def test_tensors_of_other_names_or_shapes_are_refused_before_they_are_read(folder: Path) -> None:
    file = folder / WEIGHTS

    def turn(header: dict[str, dict[str, object]]) -> None:
        entry = next(
            entry for entry in header.values() if len(entry.get("shape", ())) == 2 and len(set(entry["shape"])) == 2
        )
        entry["shape"] = entry["shape"][::-1]

    rewrite(file, turn)
    with pytest.raises(ModelRefused, match="the tensors that its genome makes"):
        ServedNetwork.load(check_model_folder(folder, max_bytes=MOST))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "broken", output__conv__bias=float("nan"))
    with pytest.raises(ModelRefused, match=r"finite weights.*output\.conv\.bias"):
        ServedNetwork.load(check_model_folder(folder, max_bytes=MOST))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"run": "digits"},
        {"run": "../digits", "candidate": "0123456789abcdef"},
        {"run": "a/b", "candidate": "0123456789abcdef"},
        {"run": "digits", "candidate": "../../etc/passwd"},
        {"run": "..", "candidate": "0123456789abcdef"},
        {"run": "digits", "candidate": "champion"},
        {"run": "a\n", "candidate": "0123456789abcdef"},
        {"model": "digits", "version": "1/../2"},
        {"model": "digits", "version": "١"},
        {"model": "digits", "alias": "a b"},
        {"folder": "/etc"},
        {"run": "digits", "candidate": "0123456789abcdef", "digest": "x"},
    ],
    ids=str,
)
def test_an_entry_from_outside_is_a_name_and_never_a_path(entry: dict[str, object]) -> None:
    with pytest.raises(CandidateNotFound):
        check_entry(entry)


def test_what_a_command_line_names_is_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert entry_of("pipeline") == {"folder": str(folder)}
    assert entry_of("digits/0123456789abcdef") == {"run": "digits", "candidate": "0123456789abcdef"}
    assert entry_of("models:/digits@champion") == {"model": "digits", "alias": "champion"}
    assert entry_of("models:/digits/3") == {"model": "digits", "version": "3"}
    for text in ("", "nothing", "models:/", "models:/digits", "models:/../x@y", "a/b/c"):
        with pytest.raises(CandidateNotFound):
            entry_of(text)
    assert version_name({"run": "digits", "candidate": "ab", "generation": 1}) == "digits/ab"
