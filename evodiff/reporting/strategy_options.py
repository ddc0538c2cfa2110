"""The strategies and their options, as a table for a terminal."""

from __future__ import annotations

import json
from typing import Final

from rich import box
from rich.table import Table

from evodiff.engine.strategies import DEFAULT, STRATEGIES, options_of

MEANINGS: Final = {
    "crossover_rate": "share of the children that have two parents",
    "diversity_floor": "share of the first generation's diversity below which new candidates from afar come in",
    "growing": "cap the complexity of candidates in early generations",
    "informed": "share of mutations that know what each layer of the parent is worth",
    "memory": "most evaluations that the models learn from",
    "mutation_rate": "share of the children of two parents that are mutated as well",
    "operator_floor": "part of a uniform choice among mutations; the rest goes by what children of each gained",
    "pool": "children that the models pick a generation from",
    "population": "how many of the youngest candidates may become parents; null is two generations",
    "rounds": "rounds in which the pool is made, each but the first from the best so far",
    "scores": "let the models see zero-cost scores of a shortlist as well",
    "tournament_size": "candidates drawn for each parent; null is a quarter of those alive",
}


def strategies_table() -> Table:
    """Return the options of every strategy, with the value that new runs have and what it means."""
    table = Table(
        title="In params.yaml: strategy: NAME, and strategy_options: {OPTION: VALUE}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("strategy")
    table.add_column("option")
    table.add_column("default", justify="right")
    table.add_column("meaning")
    for strategy in STRATEGIES:
        called = f"{strategy} (default)" if strategy == DEFAULT else strategy
        options = sorted(options_of(strategy).items())
        for position, (option, value) in enumerate(options):
            # A value is written as params.yaml takes it: true, null.
            table.add_row("" if position else called, option, json.dumps(value), MEANINGS[option])
        if not options:
            table.add_row(called, "", "", "has no options")
        table.add_section()
    return table
