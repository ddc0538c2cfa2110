"""Settings: command-line options over ``EVODIFF_*`` variables over ``params.yaml`` over the defaults below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from pydantic_settings import SettingsError as SourceError
from yaml import YAMLError

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Prediction = Literal["v_prediction", "epsilon"]
NoiseScheduleName = Literal["linear", "scaled_linear", "cosine"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


class TrainingSettings(BaseModel):
    """How every candidate is trained; frozen with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=120, ge=1, description="training steps of the full rung")
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=4e-3, gt=0, description="of 32 inputs; scaled, see training.optimizer")
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=20, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    prediction: Prediction = "v_prediction"
    noise_schedule: NoiseScheduleName = "linear"
    snr_gamma: float = Field(default=5.0, gt=0, description="min-SNR weighting (Hang et al. 2023)")
    label_dropout: float = Field(default=0.1, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    early_stop_factor: float = Field(
        default=1.5,
        gt=1,
        description="a trial stops when its loss is this many times the median of the generation before",
    )


class EvaluationSettings(BaseModel):
    """How every candidate is scored; frozen with the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=500, ge=16, description="generated images per score")
    sampler_steps: int = Field(default=10, ge=2)
    sigma_min: float = Field(default=0.01, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    guidance: float = Field(default=1.0, ge=1, description="1 is no guidance")
    batch_size: int = Field(default=250, ge=1)
    loss_batch: int = Field(default=256, ge=1, description="images of the fixed denoising-loss batch")
    serving_batch: int = Field(default=8, ge=1, description="batch of the latency and memory objectives")


class Settings(BaseSettings):
    """Every setting of a search, with where its files live."""

    model_config = SettingsConfigDict(
        env_prefix="EVODIFF_", env_nested_delimiter="__", yaml_file="params.yaml", extra="forbid", frozen=True
    )

    runs_dir: Path = Path("runs")
    cache_dir: Path = Path("~/.cache/evodiff")
    release_file: Path = Field(default=Path("runs/release.json"), description="what serves, and what waits to")
    tracking_uri: str | None = Field(default=None, description="MLflow server; None tracks nothing")
    archive: Path = Field(default=Path(".archive"), description="git and DVC working copy that keeps generations")
    archive_remote: str | None = Field(default=None, description="URL of a new archive's data; None is a folder in it")
    dataset: str = "digits"
    image_size: int | None = Field(default=None, ge=4, le=256, description="None takes the dataset's own size")
    objectives: tuple[str, ...] = ("kid", "latency_ms", "memory_mb")
    calibration_seconds: float = Field(default=15.0, gt=0, description="for timing operators, once a device")
    target: str = Field(default="local", description="hardware that will serve: local, or a profile such as m2-pro")
    generations: int = Field(default=3, ge=1)
    population: int = Field(default=8, ge=2)
    workers: int | None = Field(default=None, ge=1, description="None takes one per core, at most 8")
    device: DeviceName = "auto"
    seed: int = Field(default=0, ge=0)
    strategy: str = "nsga2"
    prefer: str | None = None
    time_budget_seconds: float | None = Field(default=None, gt=0)
    stop_on_plateau: bool = Field(default=False, description="open no generation once the hypervolume hardly grows")
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: given values, environment, ``params.yaml``."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(given: Mapping[str, Any]) -> Settings:
    """Return settings in which what is ``given`` comes first; ``steps`` stands for ``training.steps``.

    Raises:
        SettingsError: a value is not allowed, wherever it comes from.
    """
    values = {name: value for name, value in given.items() if name != "steps"}
    try:
        settings = Settings(**values)
        if "steps" in given:
            training = TrainingSettings(**{**settings.training.model_dump(), "steps": given["steps"]})
            settings = settings.model_copy(update={"training": training})
    except (SourceError, YAMLError) as error:
        raise SettingsError(
            f"EVODIFF_* variables or params.yaml cannot be read: {error}".replace("\n", " "),
            remedy="Write lists and mappings as JSON in variables, names with values in params.yaml.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"Setting {where}: {first['msg']}, found {first['input']!r}.",
            remedy="Correct the option, the EVODIFF_* variable or params.yaml, wherever it comes from.",
        ) from error
    return settings
