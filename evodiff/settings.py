"""Settings: command-line options over ``EVODIFF_*`` variables over ``params.yaml`` over the defaults below.

A run freezes those that decide its results. Where it goes on, an option or a variable that contradicts it is refused;
``params.yaml``, which stays where it is from run to run, is not: the run's own value holds, with a warning.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX: Final = "EVODIFF_"
PARAMS_FILE: Final = "params.yaml"
# Variables of that name which services, DAGs and tests read themselves.
_ELSEWHERE: Final = {
    "AIRFLOW_PORT",
    "ALERTMANAGER",
    "ALERTMANAGER_PORT",
    "ALERT_COOLDOWN_MINUTES",
    "ALERT_POLL_SECONDS",
    "APPROVAL_HOURS",
    "AUDIT_CRON",
    "DASHBOARDS",
    "GENERATION_DEADLINE_MINUTES",
    "HOME",
    "HOUSEKEEPING_CRON",
    "KEEP_EVOLVING_SECONDS",
    "METRICS_PORT",
    "MLFLOW_PORT",
    "PROMETHEUS",
    "PROMETHEUS_PORT",
    "RELEASE_CANARY_SECONDS",
    "RELEASE_POLL_SECONDS",
    "REQUIRE_SERVERS",
    "RETRY_SECONDS",
    "SERVICES_MARK",
    "SLOTS",
}

Source = Literal["option", "environment", "params.yaml"]
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


def _read_option(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Read an option of a strategy; of a variable, which holds text, as JSON: 1 is a number there, not true."""
    with suppress(ValueError):
        value = json.loads(value) if isinstance(value, str) else value
    try:
        return validate(value)
    except ValidationError as error:
        raise PydanticCustomError("strategy_option", "expected true, false, a number or null") from error


StrategyOption = Annotated[bool | int | float | None, WrapValidator(_read_option)]


class Settings(BaseSettings):
    """Every setting of a search, with where its files live."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    runs_dir: Path = Path("runs")
    cache_dir: Path = Path("~/.cache/evodiff")
    release_file: Path = Field(default=Path("runs/release.json"), description="what serves, and what waits to")
    feedback_store: Path = Field(default=Path("runs/feedback.sqlite"), description="votes, joined where they are")
    min_raters: int = Field(default=3, ge=1, description="of a version, for its votes to count in a search")
    tracking_uri: str | None = Field(default=None, description="MLflow server; None tracks nothing")
    tracking_pages: str | None = Field(default=None, description="where a browser finds it; None is the same address")
    archive: Path = Field(default=Path(".archive"), description="git and DVC working copy that keeps generations")
    archive_remote: str | None = Field(default=None, description="URL of a new archive's data; None is a folder in it")
    min_free_mb: float = Field(default=500.0, ge=0, description="10^6 bytes that a generation leaves free on its disk")
    retention_days: int = Field(default=30, ge=1, description="what housekeeping removes is older")
    retention_generations: int = Field(default=5, ge=1, description="artifacts of so many last generations stay")
    airflow_database: str | None = Field(
        default=None, description="for `airflow db clean`; None asks Airflow's settings"
    )
    dataset: str = "digits"
    image_size: int | None = Field(default=None, ge=4, le=256, description="None takes the dataset's own size")
    objectives: tuple[str, ...] = ("kid", "latency_ms", "memory_mb")
    calibration_seconds: float = Field(default=15.0, gt=0, description="for timing operators, once a device")
    target: str = Field(default="local", description="hardware that will serve: local, or a profile such as m2-pro")
    generations: int = Field(default=3, ge=1)
    population: int = Field(default=8, ge=2)
    rungs: int = Field(
        default=1, ge=1, le=5, description="fidelities; each trains a third as long as the next, which few reach"
    )
    replicate_ties: bool = Field(
        default=False, description="try candidates of the front again whose place is owed to less than an error"
    )
    workers: int | None = Field(default=None, ge=1, description="None takes one per core, at most 8")
    device: DeviceName = "auto"
    seed: int = Field(default=0, ge=0)
    strategy: str = Field(default="surrogate", description="surrogate, nsga2, regularised or random")
    inherit: bool = Field(default=False, description="children start from the weights of their parents")
    strategy_options: dict[str, StrategyOption] = Field(
        default={}, description="settings of the strategy by name, such as informed; others keep their defaults"
    )
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
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=_read_params())


def load_settings(given: Mapping[str, Any]) -> Settings:
    """Return settings in which what is ``given`` comes first; ``steps`` stands for ``training.steps``.

    A variable ``EVODIFF_*`` that is no setting is warned of.

    Raises:
        SettingsError: a value is not allowed, wherever it comes from.
    """
    _warn_of_unknown_variables()
    values = {name: value for name, value in given.items() if name != "steps"}
    with settings_errors(PREFIX, f"the option, the {PREFIX}* variable or {PARAMS_FILE}, wherever it comes from"):
        settings = Settings(**values)
        if "steps" in given:
            chosen = settings.training.model_dump(exclude_unset=True)
            training = TrainingSettings(**{**chosen, "steps": given["steps"]})
            settings = settings.model_copy(update={"training": training})
    return settings


@contextmanager
def settings_errors(prefix: str, sources: str) -> Iterator[None]:
    """Say what pydantic finds wrong with settings; ``prefix`` is of their variables, ``sources`` where they come from.

    Raises:
        SettingsError: a value is not allowed, or a variable cannot be read.
    """
    try:
        yield
    except SourceError as error:
        raise SettingsError(
            f"{prefix}* variables cannot be read: {error}".replace("\n", " "),
            remedy="Write lists and mappings as JSON in variables.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"Setting {where}: {first['msg']}, found {first['input']!r}.", remedy=f"Correct {sources}."
        ) from error


def settings_sources(given: Mapping[str, Any]) -> dict[str, Source]:
    """Return where each setting that somebody chose comes from, by its name, such as ``seed`` or ``training.steps``.

    ``given`` are options, as for :func:`load_settings`; a setting that several sources name is the first one's.
    """
    found: dict[str, Source] = dict.fromkeys(setting_names(_read_params()), PARAMS_FILE)
    found.update(dict.fromkeys(setting_names(EnvSettingsSource(Settings)()), "environment"))
    found.update(dict.fromkeys(setting_names(given), "option"))
    return found


def setting_names(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the settings that a mapping holds, nested ones as ``training.steps``."""
    for name, value in values.items():
        if isinstance(value, BaseModel):
            yield from (f"{name}.{field}" for field in type(value).model_fields)
        elif isinstance(value, dict):
            yield from (f"{name}.{field}" for field in value)
        else:
            yield "training.steps" if name == "steps" else name


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + setting.upper().replace(".", "__")


def _read_params() -> dict[str, Any]:
    """Return what ``params.yaml`` in the working folder says; nothing where it is not there or empty."""
    try:
        content = yaml.safe_load(Path(PARAMS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _no_params(" ".join(str(error).split())) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _no_params(f"a {type(content).__name__}")
    if not all(isinstance(name, str) for name in content):
        raise _no_params(f"the name {next(name for name in content if not isinstance(name, str))!r}")
    return content


def _no_params(found: str) -> SettingsError:
    return SettingsError(
        f"{Path(PARAMS_FILE).absolute()}: expected a mapping of names to values, found {found}.",
        remedy="Write settings as YAML, such as `seed: 3`, or move the file away.",
    )


def _warn_of_unknown_variables() -> None:
    from evodiff.deployment.release.rollout_settings import RolloutSettings
    from evodiff.deployment.settings import ServingSettings

    known = {variable_name(name).removeprefix(PREFIX) for name in _all_settings()} | _ELSEWHERE
    known |= {f"SERVE_{name.upper()}" for name in ServingSettings.model_fields}
    known |= {f"ROLLOUT_{name.upper()}" for name in RolloutSettings.model_fields}
    for name in sorted(os.environ):
        ours, called = name.upper().startswith(PREFIX), name.upper().removeprefix(PREFIX)
        if ours and called.partition("__")[0] not in known:
            near = get_close_matches(called, sorted(known), n=1)
            meant = f"did you mean {PREFIX}{near[0]}?" if near else "no setting has a name like that."
            warnings.warn(f"The variable {name} sets nothing: {meant}", stacklevel=3)


def _all_settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from (f"{name}.{inner}" for inner in nested.model_fields)
        yield name
