"""Diagrams of genomes: well-formed, nothing overlaps, nothing is cut, and they say what the genome says."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture.genome import (
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    layer,
)
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import zoo
from evodiff.errors import InvalidGenome
from evodiff.reporting import diagram_svg
from evodiff.reporting.diagram import rounded_path
from evodiff.reporting.diagram_labels import layer_label
from evodiff.reporting.diagram_layout import BOX_WIDTH, Box, Layout, layout

SVG = "{http://www.w3.org/2000/svg}"
DIGITS, PHOTOS = ImageShape(1, 8, 10), ImageShape(3, 32, 2)
SPACES = {shape: ArchitectureSpace(shape, objectives=()) for shape in (DIGITS, PHOTOS)}


def random_genome(shape: ImageShape, seed: int) -> ArchitectureGenome:
    """Return a sampled genome after some mutations, which bring connections and levels where one would not put them."""
    rng = np.random.default_rng(seed)
    genome = SPACES[shape].sample(rng)
    for _ in range(int(rng.integers(0, 12))):
        genome = SPACES[shape].mutate(genome, rng)
    return genome


def winding() -> ArchitectureGenome:
    """Return a genome whose resolution falls and rises twice, with connections of every kind."""
    return ArchitectureGenome(
        (
            layer("a", "residual", channels=2),
            layer("down", "downsample"),
            layer("b", "conv", kernel=5, expansion=4, separable=True, modulation="scale_shift"),
            layer("up", "upsample"),
            layer("c", "attention", kind="linear"),
            layer("down2", "downsample"),
            layer("d", "conv"),
            layer("up2", "upsample"),
            layer("e", "norm"),
            layer("f", "residual"),
            layer("g", "activation"),
        ),
        (
            Connection(STEM, "c", "concat"),
            Connection(STEM, "f", "add"),
            Connection("a", "e", "add"),
            Connection("a", "f", "concat"),
            Connection("a", "c", "add"),
            Connection("up", "e", "concat"),
            Connection("e", "g", "add"),
        ),
    )


def flat(layers: int) -> ArchitectureGenome:
    """Return a stack of one resolution with nested connections inside it."""
    genes = tuple(layer(f"l{index}", "attention", modulation="add") for index in range(layers))
    edges = tuple(Connection(f"l{index}", f"l{index + 2}", "add") for index in range(layers - 2))
    return ArchitectureGenome(genes, edges)


def overlap(first: Box, second: Box) -> bool:
    return (
        first.x < second.x + BOX_WIDTH
        and second.x < first.x + BOX_WIDTH
        and first.y < second.bottom
        and second.y < first.bottom
    )


def crosses(points: tuple[tuple[float, float], ...], box: Box) -> bool:
    """Tell whether straight lines through ``points`` enter the inside of a box."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        for share in np.linspace(0, 1, 60):
            x, y = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
            if box.x + 0.5 < x < box.x + BOX_WIDTH - 0.5 and box.y + 0.5 < y < box.bottom - 0.5:
                return True
    return False


def check_layout(places: Layout) -> None:
    for first, second in itertools.combinations(places.boxes, 2):
        assert not overlap(first, second), (first, second)
    for box in places.boxes:
        assert places.left <= box.x
        assert box.x + BOX_WIDTH <= places.width
        assert box.y >= 0
        assert box.bottom <= places.height
    for route in places.routes:
        assert all(0 <= x <= places.width and 0 <= y <= places.height for x, y in route.points), route
        assert not any(crosses(route.points, box) for box in places.boxes), route
    for points in places.trunk:
        assert not any(crosses(points, box) for box in places.boxes), points


def check_svg(genome: ArchitectureGenome, shape: ImageShape) -> ElementTree.Element:
    drawing = ElementTree.fromstring(diagram_svg(genome, shape))
    resolved = resolve(genome, shape)
    boxes = drawing.findall(f".//{SVG}rect[@class='box']")
    assert len(boxes) == len(genome.layers) + 2
    signs = drawing.findall(f".//{SVG}circle")
    merges = {edge.merge for item in resolved.layers for edge in item.edges}
    assert len(signs) == len(genome.connections) + len(merges)
    return drawing


@pytest.mark.parametrize("shape", [DIGITS, PHOTOS])
def test_the_zoo_is_drawn_without_overlaps(shape: ImageShape) -> None:
    for genome in zoo(shape).values():
        check_layout(layout(resolve(genome, shape)))
        check_svg(genome, shape)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([DIGITS, PHOTOS]), st.integers(0, 2**32 - 1))
def test_random_genomes_are_drawn_without_overlaps(shape: ImageShape, seed: int) -> None:
    genome = random_genome(shape, seed)
    check_layout(layout(resolve(genome, shape)))
    check_svg(genome, shape)


@pytest.mark.parametrize("genome", [winding(), flat(3), flat(12), flat(64)], ids=["winding", "3", "12", "64"])
def test_unusual_shapes_are_drawn_without_overlaps(genome: ArchitectureGenome) -> None:
    check_layout(layout(resolve(genome, DIGITS)))
    check_svg(genome, DIGITS)


def test_finer_resolutions_are_drawn_higher() -> None:
    resolved = resolve(zoo(PHOTOS)["ddpm_unet"], PHOTOS)
    places = layout(resolved)
    assert [band.size for band in places.bands] == sorted((band.size for band in places.bands), reverse=True)
    bands = {band.size: band for band in places.bands}
    for item in resolved.layers:
        if item.in_size == item.out_size:
            box = places.boxes[item.position + 1]
            assert bands[item.in_size].y <= box.y
            assert box.bottom <= bands[item.in_size].y + bands[item.in_size].height


def test_a_u_net_and_a_flat_transformer_are_both_two_columns() -> None:
    for name in ("ddpm_unet", "dit", "uvit"):
        places = layout(resolve(zoo(DIGITS)[name], DIGITS))
        assert {box.column for box in places.boxes} == {0, 1}


def test_connections_inside_a_column_have_lanes_of_their_own() -> None:
    places = layout(resolve(flat(12), DIGITS))
    inside = [route for route in places.routes if not route.curved]
    for first, second in itertools.combinations(inside, 2):
        if first.points[1][0] == second.points[1][0]:
            spans = [sorted((route.points[1][1], route.points[2][1])) for route in (first, second)]
            assert spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]


def test_boxes_say_component_channels_and_settings() -> None:
    genome = winding()
    drawing = check_svg(genome, DIGITS)
    texts = ["".join(item.itertext()) for item in drawing.iter(f"{SVG}text")]
    assert "Linear attention" in texts
    assert "Depthwise 5×5 ×4" in texts
    assert "+x · group norm · SiLU · t scale-shift" in texts
    assert "32→64 ch" in texts
    assert "8→4, conv" in texts
    assert any("width 32 channels" in text for text in texts)
    assert "skip, added" in texts
    assert "skip, concatenated" in texts


def test_nothing_a_genome_can_say_is_cut() -> None:
    wide = GlobalParameters(width=128)
    genes = [
        layer("a", "residual", channels=4, kernel=5, modulation="scale_shift"),
        layer("down", "downsample", method="average"),
        layer("b", "conv", channels=4, kernel=5, expansion=4, separable=True, modulation="scale_shift"),
        layer("c", "attention", kind="linear", heads=8, modulation="scale_shift"),
        layer("up", "upsample", method="nearest"),
        layer("d", "residual", channels=3, kernel=5, modulation="scale_shift"),
    ]
    genome = ArchitectureGenome(tuple(genes), (Connection("a", "d", "concat"),), wide)
    assert "…" not in diagram_svg(genome, PHOTOS)


def test_the_legend_names_only_components_that_are_there() -> None:
    drawing = check_svg(flat(3), DIGITS)
    texts = {"".join(item.itertext()) for item in drawing.iter(f"{SVG}text")}
    assert "Upsample" not in texts
    assert "skip, concatenated" not in texts


def test_layers_that_differ_are_labelled_differently() -> None:
    shape = ImageShape(1, 8, 0)

    def label(**changes: str | int | bool) -> tuple[str, str, str]:
        genome = ArchitectureGenome(
            (layer("x", ArchitectureComponent.CONV, modulation="add").with_settings(**changes),)
        )
        found = layer_label(resolve(genome, shape).layers[0])
        return found.title, found.detail, found.channels

    changes: list[dict[str, str | int | bool]] = [
        {},
        {"channels": 2},
        {"kernel": 5},
        {"expansion": 2},
        {"separable": True},
        {"shortcut": False},
        {"norm": "rms"},
        {"activation": "mish"},
        {"modulation": "gated"},
    ]
    assert len({label(**change) for change in changes}) == len(changes)


def test_a_hostile_title_stays_text() -> None:
    drawing = ElementTree.fromstring(diagram_svg(flat(3), DIGITS, title='</title><script>"&\x01'))
    assert drawing.find(f".//{SVG}script") is None
    assert "<script>" in str(drawing.findtext(f"{SVG}title"))


def test_a_genome_that_makes_no_network_is_refused() -> None:
    with pytest.raises(InvalidGenome, match="Resolution not restored"):
        diagram_svg(ArchitectureGenome((layer("a", "residual"), layer("b", "downsample"))), DIGITS)


def test_rounded_paths_start_and_end_where_they_should() -> None:
    path = rounded_path([(0, 0), (10, 0), (10, 20)])
    assert path == "M0 0L5 0Q10 0 10 5L10 20"
    assert rounded_path([(1, 2), (3, 4)]) == "M1 2L3 4"
