"""Operations, and the kernels that stand for them."""

from __future__ import annotations

import pytest
import torch

from evodiff.hardware import KINDS, Operation
from evodiff.hardware import operation as op
from evodiff.hardware.design import PAGES, group, pages
from evodiff.hardware.kernels import Arena, make_kernel

FIRST_PAGES = [item for page, _ in zip(pages(), range(3), strict=False) for item in page]


def test_a_convolution_counts_two_operations_a_weight_and_position():
    item = op.conv(2, 8, 16, 10, 3)
    assert item.flops == 2 * (2 * 10 * 10) * (3 * 3 * 8 * 16)
    assert item.write_bytes == 4 * 2 * 16 * 10 * 10
    assert op.conv(2, 8, 16, 10, 3, 2).flops == item.flops / 4


def test_full_attention_is_quadratic_in_positions_and_linear_attention_is_not():
    def ratio(variant: str) -> float:
        return op.attention(variant, 1, 32, 16, 4).flops / op.attention(variant, 1, 32, 8, 4).flops

    assert ratio("full") == 16
    assert ratio("linear") == 4


def test_equal_operations_are_one_object():
    assert op.conv(8, 32, 32, 8, 3) is op.conv(8, 32, 32, 8, 3)


def test_the_first_page_has_every_kind_and_variant():
    first = next(pages())
    assert {item.key for item in first} == {(kind, variant) for kind in KINDS for variant in KINDS[kind]}
    assert {group(item) for page in pages() for item in page} == {group(item) for item in first}


def test_there_is_a_page_for_each_of_the_networks():
    assert len(list(pages())) == len(PAGES)
    assert list(pages()) == list(pages())


@pytest.mark.parametrize("item", FIRST_PAGES, ids=str)
def test_a_kernel_returns_what_its_operation_writes(item: Operation):
    arena = Arena("cpu", elements=500_000)
    arena.open_page([item])
    with torch.inference_mode():
        result = make_kernel(item, arena)()
    assert result.numel() * 4 == item.write_bytes
    assert result.isfinite().all()


def test_features_lie_in_the_memory_format_of_their_operation():
    arena = Arena("cpu", elements=10_000)
    last = arena.features(op.conv(2, 8, 8, 4, 3, channels_last=True))
    assert last.shape == (2, 8, 4, 4)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert arena.features(op.conv(2, 8, 8, 4, 3)).is_contiguous()
