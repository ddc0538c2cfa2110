"""``import evodiff`` is light, and its names are there when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evodiff
import evodiff.models
from evodiff.architecture import genome, operators


def _modules_after(statement):
    program = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import evodiff",
        "import evodiff; evodiff.ArchitectureGenome; dir(evodiff)",
        "import evodiff; evodiff.GeneticOperators",
        "from evodiff.architecture import genome, graph, operators, space, cost, zoo",
    ],
)
def test_light_imports_leave_torch_and_diffusers_out(statement):
    loaded = _modules_after(statement)
    assert "evodiff.models" in loaded
    assert not loaded & {"torch", "diffusers", "transformers"}


def test_importing_evodiff_loads_nothing_heavy_at_all():
    assert not _modules_after("import evodiff") & {"numpy", "sklearn", "pydantic", "moocore", "scipy", "rich"}


def test_the_network_needs_no_diffusers():
    assert "diffusers" not in _modules_after("import evodiff.architecture.network")


def test_public_names_are_those_of_their_rooms():
    assert evodiff.ArchitectureGenome is genome.ArchitectureGenome
    assert evodiff.ArchitectureComponent is genome.ArchitectureComponent
    assert evodiff.GeneticOperators is operators.GeneticOperators
    assert evodiff.EvolvedUNet2DModel is evodiff.models.EvolvedUNet2DModel
    assert evodiff.EvolvedPipeline is evodiff.models.EvolvedPipeline
    assert set(evodiff.__all__) <= set(dir(evodiff))


def test_classes_say_that_they_live_behind_the_light_door():
    assert evodiff.EvolvedUNet2DModel.__module__ == "evodiff.models"
    assert evodiff.EvolvedPipeline.__module__ == "evodiff.models"


@pytest.mark.parametrize("module", [evodiff, evodiff.models])
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = module.Nothing
