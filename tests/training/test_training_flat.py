"""Parameters in few long tensors."""

from __future__ import annotations

import torch
from small_denoiser import SmallDenoiser

from evodiff.training.flat import FlatParameters


def flat(network: SmallDenoiser) -> FlatParameters:
    return FlatParameters(network, {name: float(name.startswith("first")) for name, _ in network.named_parameters()})


def test_values_stay_and_a_change_of_the_long_tensor_is_a_change_of_the_network() -> None:
    network, twin = SmallDenoiser(1), SmallDenoiser(1)
    parameters = flat(network)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    with torch.no_grad():
        parameters.groups[1.0].fill_(3.0)
    assert {name for name, parameter in network.named_parameters() if bool((parameter == 3.0).all())} == {
        "first.weight",
        "first.bias",
    }


def test_gradients_arrive_in_the_long_tensors() -> None:
    network, twin = SmallDenoiser(1), SmallDenoiser(1)
    parameters = flat(network)
    x, t = torch.ones(2, 1, 4, 4), torch.tensor([1, 500])
    for _ in range(2):  # the second time shows that they are zeroed, not piled up
        parameters.zero_gradients()
        network(x, t).sum().backward()
    twin(x, t).sum().backward()
    found = parameters.views([long.grad for long in parameters.groups.values() if long.grad is not None])
    for name, parameter in twin.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.equal(found[name], expected)


def test_every_view_begins_on_a_cache_line() -> None:
    parameters = flat(SmallDenoiser(1))
    views = parameters.views([long.detach() for long in parameters.groups.values()])
    assert all(view.data_ptr() % 64 == 0 for view in views.values())


def test_released_parameters_share_no_memory_and_keep_their_values() -> None:
    network, twin = SmallDenoiser(1), SmallDenoiser(1)
    flat(network).release()
    storages = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    assert len(storages) == len(list(network.parameters()))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
