"""The feature net: what its features tell apart, and its file."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from evodiff.data import ImageDataset, open_dataset, scale
from evodiff.data.dataset import assemble
from evodiff.data.shapes import draw_shapes
from evodiff.errors import LedgerError, SettingsError
from evodiff.evaluation import feature_training
from evodiff.evaluation.feature_net import FeatureNet, load_or_train, train_feature_net
from evodiff.evaluation.kid import kid


def without_labels(dataset: ImageDataset) -> ImageDataset:
    return assemble(dataset.name, dataset.images, None, [], split=dataset.split)


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return open_dataset("digits")


@pytest.fixture(scope="module")
def nets(digits: ImageDataset) -> dict[str, FeatureNet]:
    return {
        "search": train_feature_net(digits, variant="search"),
        "report": train_feature_net(digits, variant="report"),
        "unlabelled": train_feature_net(without_labels(digits), variant="search"),
    }


def images_of(dataset: ImageDataset, part: str) -> torch.Tensor:
    return torch.from_numpy(scale(dataset.part(part)[0]))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of anything but quality."""
    monkeypatch.setattr(feature_training, "training_steps", lambda size: 3)


@pytest.mark.parametrize("variant", ["search", "report"])
def test_it_reads_digits(nets, digits: ImageDataset, variant: str) -> None:
    net = nets[variant]
    assert net.accuracy > 0.95
    images, labels = digits.part("test")
    probabilities = net.probabilities(scale(images))
    assert probabilities.shape == (len(images), 10)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.93


@pytest.mark.parametrize("name", ["search", "report", "unlabelled"])
def test_training_images_have_standard_features(nets, digits: ImageDataset, name: str) -> None:
    features = nets[name].features(images_of(digits, "train"))
    assert features.shape == (len(digits.part("train")[0]), 64)
    assert features.dtype == np.float64
    assert np.abs(features.mean(axis=0)).max() < 0.15  # the soft bound moves a skewed feature a little
    assert 0.7 < features.std(axis=0).min() <= features.std(axis=0).max() < 1.05


@pytest.mark.parametrize("name", ["search", "report", "unlabelled"])
def test_worse_images_are_farther_away(nets, digits: ImageDataset, name: str) -> None:
    net = nets[name]
    train = images_of(digits, "train")[:500]
    rng = torch.Generator().manual_seed(0)
    blurred = torch.nn.functional.avg_pool2d(train, 3, 1, 1)
    images = {
        "training": train,
        "one image in twenty": train[:25].repeat(20, 1, 1, 1),
        "averages of two": (train + train.roll(1, 0)) / 2,
        "blurred": blurred,
        "turned": torch.rot90(train, 1, (2, 3)),
        "noise": torch.randn(train.shape, generator=rng).clamp(-1, 1),
    }
    validation = net.features(images_of(digits, "validation"))
    distances = {kind: kid(net.features(batch), validation) for kind, batch in images.items()}
    floor = distances.pop("training")
    assert abs(floor.value) < 3 * floor.standard_error
    assert floor.standard_error < 0.03
    for kind, distance in distances.items():
        assert distance.value > floor.value + 5 * floor.standard_error, kind
    assert distances["noise"].value > 1


@pytest.mark.parametrize("name", ["search", "report", "unlabelled"])
def test_more_noise_is_farther_away(nets, digits: ImageDataset, name: str) -> None:
    net = nets[name]
    train = images_of(digits, "train")[:500]
    noise = torch.randn(train.shape, generator=torch.Generator().manual_seed(0))
    validation = net.features(images_of(digits, "validation"))
    values = [kid(net.features(train + strength * noise), validation).value for strength in (0.0, 0.3, 0.6, 1.2)]
    assert values == sorted(values)


def test_no_image_is_farther_than_the_bound(nets) -> None:
    wild = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 1e4
    assert np.abs(nets["search"].features(wild)).max() <= 4


def test_training_twice_gives_the_same_bytes_and_leaves_torch_alone(few_steps: None) -> None:
    shapes = draw_shapes(image_size=16, images=200)
    before = torch.get_rng_state(), torch.get_num_threads()
    first = train_feature_net(shapes, variant="search")
    torch.manual_seed(1)
    after = torch.get_rng_state()
    second = train_feature_net(shapes, variant="search")
    assert first.content == second.content
    assert first.digest == second.digest
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.get_num_threads() == before[1]
    assert train_feature_net(shapes, variant="search", seed=1).digest != first.digest


def test_another_process_with_more_threads_gives_the_same_bytes(few_steps: None) -> None:
    program = (
        "from evodiff.evaluation import feature_training; feature_training.training_steps = lambda size: 3\n"
        "from evodiff.evaluation.feature_net import train_feature_net; from evodiff.data.shapes import draw_shapes\n"
        "print(train_feature_net(draw_shapes(image_size=8, images=200), variant='report').digest)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    here = train_feature_net(draw_shapes(image_size=8, images=200), variant="report")
    assert run.stdout.strip() == here.digest


def test_the_report_net_is_another_kind_of_network(nets) -> None:
    kinds = [{type(module).__name__ for module in nets[variant]._network.modules()} for variant in ("search", "report")]
    assert "BatchNorm2d" in kinds[0] - kinds[1]
    assert "GroupNorm" in kinds[1] - kinds[0]


@pytest.mark.parametrize("variant", ["search", "report"])
@pytest.mark.parametrize(("size", "channels"), [(4, 3), (8, 1), (12, 3), (20, 1), (28, 3), (64, 3), (96, 1)])
def test_images_of_any_size_are_judged(few_steps: None, variant: str, size: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, channels, size, size), dtype=np.uint8)
    dataset = assemble("random", images, np.arange(90) % 3, ["a", "b", "c"])
    net = train_feature_net(dataset, variant=variant)
    assert np.isfinite(net.features(scale(images[:10]))).all()
    assert net.probabilities(scale(images[:10])).shape == (10, 3)
    assert net.shape == (channels, size, 3)


def test_images_that_are_all_alike_give_finite_features(few_steps: None) -> None:
    images = np.repeat(np.arange(90, dtype=np.uint8), 64).reshape(90, 1, 8, 8) % 2
    dataset = assemble("flat", images, None, [], split=(np.arange(90) % 3).astype(np.uint8))
    net = train_feature_net(dataset, variant="search")
    assert np.isfinite(net.features(scale(images))).all()
    assert np.isfinite(net.explained)


def test_without_labels_there_are_no_probabilities(nets, digits: ImageDataset) -> None:
    net = nets["unlabelled"]
    assert net.accuracy is None
    assert net.shape == (1, 8, 0)
    assert net.explained > 0.5
    with pytest.raises(ValueError, match="trained without labels"):
        net.probabilities(images_of(digits, "test"))


def test_images_of_another_shape_are_refused(nets) -> None:
    for shape in ((5, 3, 8, 8), (5, 1, 16, 16), (1, 8, 8), (0, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"expected \(n, 1, 8, 8\)"):
            nets["search"].features(torch.zeros(shape))


def test_an_unknown_variant_is_refused(digits: ImageDataset) -> None:
    with pytest.raises(SettingsError, match=r"expected one of \['search', 'report'\], found 'final'"):
        train_feature_net(digits, variant="final")


def test_a_saved_net_says_the_same(tmp_path, nets, digits: ImageDataset) -> None:
    net = nets["search"]
    assert net.save(tmp_path / "net.safetensors")
    again = FeatureNet.load(tmp_path / "net.safetensors")
    images = images_of(digits, "test")
    assert np.array_equal(again.features(images), net.features(images))
    assert np.array_equal(again.probabilities(images), net.probabilities(images))
    assert (again.digest, again.accuracy, again.dataset) == (net.digest, net.accuracy, digits.digest)
    assert again.path == tmp_path / "net.safetensors"
    assert not nets["report"].save(tmp_path / "net.safetensors")  # what is published stays
    assert FeatureNet.load(tmp_path / "net.safetensors").digest == net.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content.replace(b"evodiff-feature-net-1", b"evodiff-feature-net-9"),
        lambda content: content.replace(b"network.out.bias", b"network.out.bios"),
    ],
    ids=["truncated", "empty", "format", "a tensor's name"],
)
def test_a_damaged_file_is_refused(tmp_path, nets, damage) -> None:
    (tmp_path / "net").write_bytes(damage(nets["search"].content))
    with pytest.raises(LedgerError, match="Expected a feature net in") as caught:
        FeatureNet.load(tmp_path / "net")
    assert caught.value.remedy


def test_a_net_is_trained_once_and_then_fetched(tmp_path, few_steps: None) -> None:
    shapes = draw_shapes(image_size=8, images=200)
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    first = load_or_train(tmp_path, shapes, "search", progress)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert load_or_train(tmp_path, shapes, "search", progress).content == first.content
    assert len(calls) == 3
    assert first.path is not None
    assert first.path.read_bytes() == first.content
    other = draw_shapes(image_size=8, images=200, seed=1)
    assert load_or_train(tmp_path, other, "search").dataset == other.digest
    assert load_or_train(tmp_path, shapes, "report").digest != first.digest


def test_a_damaged_net_in_the_cache_is_trained_anew(tmp_path, few_steps: None) -> None:
    shapes = draw_shapes(image_size=8, images=200)
    first = load_or_train(tmp_path, shapes, "search")
    first.path.write_bytes(first.content[:100])
    assert load_or_train(tmp_path, shapes, "search").content == first.content
    assert first.path.read_bytes() == first.content


def test_the_net_does_not_depend_on_the_name_of_the_dataset(few_steps: None) -> None:
    shapes = draw_shapes(image_size=8, images=200)
    renamed = dataclasses.replace(shapes, name="folder:elsewhere")
    assert train_feature_net(shapes, variant="search").content == train_feature_net(renamed, variant="search").content
