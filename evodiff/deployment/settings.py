"""Settings of serving: command-line options over ``EVODIFF_SERVE_*`` variables over the defaults below."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from evodiff.settings import settings_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "EVODIFF_SERVE_"


class ServingSettings(BaseSettings):
    """Where the router listens, whom it lets in, and how much it takes on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8090, ge=0, le=65535, description="0 takes a free one")
    allowed_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost", "::1"), description="names in the Host header, without ports"
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses or networks of reverse proxies, whose X-Forwarded-For says who asks"
    )
    secrets_dir: Path = Field(
        default=Path(".evodiff/serve"), description="holds tokens.json and signing.key, both 0600"
    )
    tokens: str | None = Field(default=None, description="what tokens.json would hold, instead of the file")
    signing_key: str | None = Field(default=None, description="what signing.key would hold, instead of the file")
    galleries: Path = Field(default=Path(".evodiff/galleries"), description="pictures of versions, for people to rate")
    cache_dir: Path = Field(default=Path("~/.cache/evodiff/serve"), description="copies of the models that are served")

    max_body_bytes: int = Field(default=65536, ge=1)
    header_seconds: float = Field(default=10.0, gt=0, description="for a client to send all headers")
    body_seconds: float = Field(default=10.0, gt=0, description="for a client to send the whole body")
    answer_seconds: float = Field(default=60.0, gt=0, description="for a client to take an answer that was sent")
    max_connections: int = Field(default=1024, ge=1, description="more than the queues hold, so that they say no")

    max_count: int = Field(default=64, ge=1, description="images of one request")
    max_steps: int = Field(default=100, ge=2, description="steps of the sampler")
    max_work: float = Field(
        default=2e7, gt=0, description="count x steps x pixels of a request; guidance counts it twice"
    )
    max_batch: int = Field(default=16, ge=1, description="images that a worker computes at once")
    max_queue: int = Field(default=256, ge=1, description="images that a worker is given at once")
    client_share: float = Field(default=0.5, gt=0, le=1, description="of the queue, for one client")
    deadline_seconds: float = Field(default=30.0, gt=0, description="for a request that names none")
    max_deadline_seconds: float = Field(default=120.0, gt=0)

    max_model_bytes: int = Field(default=2**30, ge=1, description="largest file of weights")
    load_seconds: float = Field(default=180.0, gt=0, description="for a version to load and pass its smoke test")
    loading_niceness: int = Field(default=10, ge=0, le=19, description="of what loads, beyond a worker's own 5")
    max_memory_mb: float | None = Field(default=None, gt=0, description="10^6 bytes of a worker; None is no limit")
    max_kid_factor: float = Field(
        default=3.0, gt=0, description="of the candidate's recorded KID, that the smoke test allows beyond 5 errors"
    )
    kid_seconds: float = Field(
        default=600.0, ge=0, description="between two computations of what versions' online KID is; 0 switches it off"
    )
    kid_images: int = Field(
        default=1024, ge=64, le=4096, description="that online KID is computed from; it advises from 512 on"
    )
    hang_seconds: float = Field(default=60.0, gt=0, description="a worker silent so long, with work, is ended")
    backoff_seconds: float = Field(default=0.5, gt=0, description="before a dead worker's first restart; doubles")
    max_backoff_seconds: float = Field(default=30.0, gt=0)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            ip_network(text, strict=False)  # its error says what is wrong
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: given values, environment."""
        return init_settings, env_settings


def load_serving_settings(given: Mapping[str, Any]) -> ServingSettings:
    """Return settings in which what is ``given`` comes first.

    Raises:
        SettingsError: a value is not allowed, wherever it comes from.
    """
    with settings_errors(PREFIX, f"the option or the {PREFIX}* variable"):
        return ServingSettings(**given)
