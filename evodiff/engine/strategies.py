"""The strategies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.baselines import NSGA2, RandomSearch, RegularisedEvolution, Strategy
from evodiff.engine.options import frozen_options, options_before
from evodiff.engine.prescreen import SurrogateSearch
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evodiff.engine.ledger import Ledger

DEFAULT: Final = SurrogateSearch.name

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    strategy.name: strategy for strategy in (SurrogateSearch, NSGA2, RegularisedEvolution, RandomSearch)
}


def find_strategy(strategy: str | Strategy, settings: Mapping[str, Any] | None = None) -> Strategy:
    """Return a strategy by its name, as new runs have it, with some settings of its own; or the strategy itself.

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
    try:
        return STRATEGIES[strategy](**(settings or {}))
    except TypeError as error:
        known = sorted(options_of(strategy))
        raise SettingsError(
            f"strategy: expected settings of {strategy!r}, {known}, found {dict(settings or {})}.",
            remedy="Name some of these; open a run with the version of evodiff that wrote it.",
        ) from error


def frozen_strategy(strategy: str | Strategy, ledger: Ledger) -> Strategy:
    """Return a strategy for a run: where that has frozen one of this name, with the settings that it froze.

    Raises:
        SettingsError: as :func:`find_strategy`.
        LedgerError: the run is damaged.
    """
    if not isinstance(strategy, str) or ledger.read("experiment.json") is None:
        return find_strategy(strategy)
    frozen = ledger.experiment.get("strategy")
    if not isinstance(frozen, dict) or frozen.get("name") != strategy or strategy not in STRATEGIES:
        return find_strategy(strategy)
    return find_strategy(strategy, settings_of_run(strategy, frozen.get("settings") or {}))


def settings_of_run(name: str, frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings that a run's strategy has, from those that it froze."""
    return {**options_before(STRATEGIES.get(name)), **frozen}


def options_of(name: str) -> dict[str, Any]:
    """Return the settings of a strategy with the values that new runs have."""
    strategy = STRATEGIES[name]()
    return {**options_before(STRATEGIES[name]), **frozen_options(strategy)}


def describe_strategy(strategy: Strategy) -> dict[str, Any]:
    """Return the name and the settings of a strategy, to be frozen with the run."""
    return {"name": strategy.name, "settings": frozen_options(strategy)}
