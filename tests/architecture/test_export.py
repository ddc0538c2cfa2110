"""Exported folders sample by themselves, in this process and in a fresh one, with evodiff and with diffusers alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from safetensors.torch import load_file

from evodiff import EvolvedPipeline
from evodiff.architecture.export import export_pipeline, make_scheduler, to_stock
from evodiff.architecture.genome import ArchitectureGenome, Connection, GlobalParameters, ImageShape, layer
from evodiff.architecture.network import build_network
from evodiff.architecture.stock import StockUNet, stock_unet
from evodiff.architecture.unet import EvolvedUNet2DModel
from evodiff.architecture.zoo import STOCK_SIZES, ZOO, ddpm_unet, ddpm_unet_small, stock_unet_arguments, tiny
from evodiff.errors import InvalidGenome
from evodiff.sampling.noise import NoiseSchedule

DIGITS = ImageShape(1, 8, 10)
STEPS = 4


def _network(genome, shape=DIGITS):
    """A network with every weight moved off its special first value, as if trained."""
    network = build_network(genome, shape, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.1 - 0.05)
    return network.eval()


def _inputs(shape, batch=3):
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(batch, shape.channels, shape.size, shape.size, generator=generator)
    return sample, torch.randint(0, 1000, (batch,), generator=generator)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_pipeline(_network(tiny(DIGITS)), tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture(scope="module")
def pipeline(folder):
    pipeline = EvolvedPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_folder_holds_safetensors_and_json_only(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    model = {"unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    assert names == {"model_index.json", "scheduler/scheduler_config.json"} | model


@pytest.mark.parametrize("noise_schedule", ["linear", "cosine"])
def test_what_is_written_without_diffusers_is_what_diffusers_writes(tmp_path, noise_schedule):
    network = _network(tiny(DIGITS))
    ours = export_pipeline(network, tmp_path / "ours", prediction="epsilon", noise_schedule=noise_schedule)
    scheduler = make_scheduler("epsilon", noise_schedule)
    EvolvedPipeline(EvolvedUNet2DModel.from_network(network), scheduler).save_pretrained(tmp_path / "theirs")
    for name in ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"):
        assert (ours / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name
    loaded = type(scheduler).from_pretrained(ours, subfolder="scheduler")
    assert dict(loaded.config) == dict(scheduler.config)


def test_writing_a_folder_imports_neither_torch_nor_diffusers(tmp_path):
    program = f"""
import sys
from pathlib import Path
import numpy as np
from evodiff.architecture.genome import ImageShape
from evodiff.architecture.pipeline_folder import write_pipeline_folder
settings = {{"prediction": "epsilon", "noise_schedule": "linear"}}
write_pipeline_folder(Path({str(tmp_path)!r}), {{"a": np.ones(3)}}, {{}}, ImageShape(1, 8), **settings)
assert not {{"torch", "diffusers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, capture_output=True, text=True)


def test_a_fresh_process_that_imports_evodiff_samples_the_same_pixels(folder, pipeline, tmp_path):
    program = f"""
import evodiff
import sys
assert "torch" not in sys.modules
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained({str(folder)!r})
import torch
from safetensors.torch import save_file
torch.set_num_threads({torch.get_num_threads()})
generator = torch.Generator().manual_seed(0)
images = pipeline(4, generator=generator, num_inference_steps={STEPS}, output_type="pt").images
save_file({{"images": images}}, {str(tmp_path / "images.safetensors")!r})
"""
    # An interpreter of its own, elsewhere: nothing but the installed package may help it.
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, capture_output=True, text=True)
    images = pipeline(4, generator=_generator(), num_inference_steps=STEPS, output_type="pt").images
    assert torch.equal(load_file(tmp_path / "images.safetensors")["images"], images)


def test_a_saved_pipeline_loads_again(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = EvolvedPipeline.from_pretrained(tmp_path)
    expected = pipeline(2, generator=_generator(), num_inference_steps=STEPS, output_type="np").images
    assert (again(2, generator=_generator(), num_inference_steps=STEPS, output_type="np").images == expected).all()


def test_one_generator_per_image_makes_an_image_independent_of_its_batch(pipeline):
    def sample(seeds, labels):
        generators = [_generator(seed) for seed in seeds]
        return pipeline(
            class_labels=labels, generator=generators, num_inference_steps=STEPS, output_type="pt", guidance_scale=2.0
        ).images

    assert torch.allclose(sample([3, 4, 5], [1, 2, 3])[1:2], sample([4], [2]), atol=1e-5)


def test_labels_and_guidance_steer_the_images(pipeline):
    def sample(**options):
        return pipeline(generator=_generator(), num_inference_steps=STEPS, output_type="pt", **options).images

    labelled = sample(batch_size=2, class_labels=3)
    assert torch.equal(labelled, sample(class_labels=torch.tensor([3, 3])))
    assert not torch.equal(labelled, sample(batch_size=2))
    assert not torch.equal(labelled, sample(class_labels=[3, 3], guidance_scale=3.0))
    # Guidance away from nothing but nothing is no guidance.
    null = sample(class_labels=[10, 10], guidance_scale=3.0)
    assert torch.allclose(null, sample(batch_size=2), atol=1e-4)


def test_images_come_as_pil_numpy_or_torch(pipeline):
    options = {"batch_size": 2, "num_inference_steps": STEPS}
    tensors = pipeline(**options, generator=_generator(), output_type="pt").images
    arrays = pipeline(**options, generator=_generator(), output_type="np", return_dict=False)[0]
    pictures = pipeline(**options, generator=_generator()).images
    assert tensors.shape == (2, 1, 8, 8)
    assert arrays.shape == (2, 8, 8, 1)
    assert 0 <= arrays.min() < arrays.max() <= 1
    assert pictures[0].size == (8, 8)
    assert list(pictures[1].get_flattened_data()) == (tensors[1] * 255).round().int().flatten().tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_labels": [1, 2], "batch_size": 3}, "one label an image"),
        ({"class_labels": 11}, "0 to 9, or 10 for none"),
        ({"class_labels": -1}, "0 to 9"),
        ({"guidance_scale": 2.0}, "needs class_labels"),
        ({"batch_size": 2, "generator": [torch.Generator()]}, "1 generators for 2 images"),
        ({"output_type": "latent"}, "'pil', 'np', 'pt'"),
    ],
)
def test_contradictory_requests_are_refused(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(num_inference_steps=STEPS, **options)


def test_labels_are_refused_by_a_model_without_classes():
    shape = replace(DIGITS, classes=0)
    from evodiff.architecture.unet import EvolvedUNet2DModel

    model = EvolvedUNet2DModel.from_network(_network(tiny(shape), shape))
    with pytest.raises(ValueError, match="no classes"):
        EvolvedPipeline(model, make_scheduler("v_prediction", "linear"))(class_labels=0)


@pytest.mark.parametrize("noise_schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_the_scheduler_is_that_of_the_training(prediction, noise_schedule):
    scheduler = make_scheduler(prediction, noise_schedule)
    trained = NoiseSchedule.named(noise_schedule).alphas_cumprod
    assert torch.allclose(scheduler.alphas_cumprod.double(), trained, rtol=1e-4, atol=1e-7)
    assert scheduler.config.prediction_type == prediction
    scheduler.set_timesteps(10)
    assert len(set(scheduler.timesteps.tolist())) == 10


@pytest.mark.parametrize("shape", [DIGITS, ImageShape(3, 32, 0)])
@pytest.mark.parametrize("name", STOCK_SIZES)
def test_the_ddpm_zoo_is_the_stock_network_parameter_by_parameter(shape, name):
    network = _network(ddpm_unet(shape, name), shape)
    stock = to_stock(network, keep_classes=True)
    arguments = {key: value for key, value in stock.config.items() if key in stock_unet_arguments(shape, name)}
    assert arguments == stock_unet_arguments(shape, name)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == sum(
        parameter.numel() for parameter in UNet2DModel(**stock_unet_arguments(shape, name)).parameters()
    )
    sample, timestep = _inputs(shape)
    labels = torch.tensor([0, 7, 10]) if shape.classes else None
    with torch.no_grad():
        expected = stock(sample, timestep, labels).sample
        assert torch.allclose(network(sample, timestep, labels), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.1


def _variants():
    """Every way in which a stock U-Net may differ from the zoo's, each paired with its name."""
    plain = StockUNet(
        parameters=GlobalParameters(width=16),
        multipliers=(1, 2),
        layers_per_block=1,
        down_attention=(False, True),
        middle_attention=True,
        up_attention=(False, True),
        head_channels=8,
        scale_shift=False,
    )
    no_attention = {"down_attention": (False, False), "middle_attention": False, "up_attention": (False, False)}
    one_level = {"multipliers": (1,), "down_attention": (True,), "up_attention": (False,)}
    return {
        "two blocks a level": replace(plain, layers_per_block=2),
        "scale and shift": replace(plain, scale_shift=True),
        "no attention in the middle": replace(plain, middle_attention=False),
        "attention in the middle only": replace(plain, **no_attention | {"middle_attention": True}),
        "no attention": replace(plain, **no_attention),
        "attention everywhere": replace(plain, down_attention=(True, True), up_attention=(True, True)),
        "attention on the way up only": replace(plain, down_attention=(False, False)),
        "one level": replace(plain, **one_level),
        "narrowing": replace(plain, multipliers=(1, 3, 2), down_attention=(False,) * 3, up_attention=(False,) * 3),
        "small time embedding": replace(plain, parameters=GlobalParameters(width=16, time_embedding=1)),
    }


@pytest.mark.parametrize("variant", _variants().values(), ids=_variants())
def test_every_stock_variant_is_recognised_and_keeps_its_outputs(variant):
    genome = variant.genome()
    assert stock_unet(genome).genome().canonical() == genome.canonical()
    network = _network(genome)
    sample, timestep = _inputs(DIGITS)
    with torch.no_grad():
        expected = network(sample, timestep)
        assert torch.allclose(to_stock(network)(sample, timestep).sample, expected, rtol=1e-4, atol=1e-4)


def _near_misses():
    genome = ddpm_unet_small(DIGITS)
    first, second, *_ = genome.layers
    *edges, last = genome.connections

    def with_first(**settings):
        return replace(genome, layers=(first.with_settings(**settings), *genome.layers[1:]))

    return {
        "activation": with_first(activation="gelu"),
        "norm": with_first(norm="layer"),
        "kernel": with_first(kernel=5),
        "one modulation": with_first(modulation="scale_shift"),
        "gated": with_first(modulation="gated"),
        "average": replace(
            genome,
            layers=tuple(
                gene.with_settings(method="average") if gene.component == "downsample" else gene
                for gene in genome.layers
            ),
        ),
        "linear attention": replace(
            genome,
            layers=tuple(
                gene.with_settings(kind="linear") if gene.component == "attention" else gene for gene in genome.layers
            ),
        ),
        "a connection less": replace(genome, connections=tuple(edges)),
        "an added connection": replace(genome, connections=(*edges, replace(last, merge="add"))),
        "a wider first level": (
            StockUNet(GlobalParameters(16), (2, 2), 1, (False,) * 2, False, (False,) * 2, 8, False)
        ).genome(),
        "positions": replace(genome, parameters=replace(genome.parameters, positional=True)),
        "a layer more": replace(genome, layers=(*genome.layers, layer("more", "norm"))),
        "a single block": ArchitectureGenome((first,)),
        "three blocks": ArchitectureGenome((first, second, layer("r", "residual")), (Connection("stem", "r"),)),
    }


@pytest.mark.parametrize("genome", _near_misses().values(), ids=_near_misses())
def test_what_differs_in_one_point_is_no_stock_network(genome):
    assert stock_unet(genome) is None


def test_stock_export_of_another_network_says_what_to_do(tmp_path):
    with pytest.raises(InvalidGenome, match="Export it without stock"):
        export_pipeline(_network(tiny(DIGITS)), tmp_path / "stock", stock=True)
    assert not (tmp_path / "stock").exists()
    assert {name for name in ZOO if stock_unet(ZOO[name](DIGITS))} == set(STOCK_SIZES)


def test_a_stock_folder_needs_diffusers_alone_and_samples_the_same(tmp_path):
    network = _network(ddpm_unet_small(DIGITS))
    folder = export_pipeline(network, tmp_path / "stock", stock=True, prediction="epsilon", noise_schedule="cosine")
    assert all("evodiff" not in path.read_text() for path in folder.rglob("*.json"))
    assert isinstance(UNet2DModel.from_pretrained(folder / "unet"), UNet2DModel)
    ours = export_pipeline(network, tmp_path / "ours", prediction="epsilon", noise_schedule="cosine")
    images = [
        load.from_pretrained(path)(2, generator=_generator(), num_inference_steps=STEPS, output_type="np").images
        for load, path in ((DDPMPipeline, folder), (EvolvedPipeline, ours))
    ]
    assert abs(images[0] - images[1]).max() < 1e-3
