"""The strategies by name."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.baselines import NSGA2, RandomSearch, RegularisedEvolution, Strategy
from evodiff.engine.prescreen import SurrogateSearch
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT: Final = SurrogateSearch.name

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    strategy.name: strategy for strategy in (SurrogateSearch, NSGA2, RegularisedEvolution, RandomSearch)
}


def find_strategy(strategy: str | Strategy, settings: Mapping[str, Any] | None = None) -> Strategy:
    """Return a strategy by its name and settings, or the strategy itself.

    Without settings it has its defaults. Settings are those that a run froze: one that is missing is younger than the
    run and has the value that leaves its decisions as they were (``earlier`` of the strategy).

    Raises:
        SettingsError: there is none of that name, or it has no such settings.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy not in STRATEGIES:
        raise SettingsError(
            f"strategy: expected one of {sorted(STRATEGIES)}, found {strategy!r}.",
            remedy="Name one of these, or give a Strategy object of your own.",
        )
    earlier = {} if settings is None else _earlier(STRATEGIES[strategy])
    try:
        return STRATEGIES[strategy](**{**earlier, **(settings or {})})
    except TypeError as error:
        raise SettingsError(
            f"strategy: expected settings of {strategy!r}, found {dict(settings or {})}.",
            remedy="Open the run with the version of evodiff that wrote it.",
        ) from error


def describe_strategy(strategy: Strategy) -> dict[str, Any]:
    """Return the name and the settings of a strategy, to be frozen with the run.

    A setting that has the value of ``earlier`` is left out, so that runs from before there was one agree.
    """
    plain: Any = strategy
    settings = {item.name: getattr(strategy, item.name) for item in fields(plain)} if is_dataclass(plain) else {}
    earlier = _earlier(strategy)
    kept = {name: value for name, value in settings.items() if name not in earlier or value != earlier[name]}
    return {"name": strategy.name, "settings": kept}


def _earlier(strategy: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(strategy, "earlier", {})
    return found
