"""Tables on which runner to take."""

from typing import Any

from pipeline.artifacts.recommendation import Recommendation
from pipeline.tables.table import VERDICT, Cell, Column, Mixed, Number, Table, with_interval
from pipeline.tables.traced import Seen, plain

BEGIN = (Column("batch", "count"), Column("goal"))


def choices(recommendation: Seen[Recommendation]) -> Table:
    """Return the runner to take for each batch size and goal, and how far ahead of the next one it is."""
    machine = plain(recommendation).machine
    rows: list[list[Cell]] = [
        [
            *(choice.batch, choice.goal, choice.runner.name, machine.label(plain(choice.device))),
            _value(choice.value, plain(choice.unit)),
            "" if plain(choice.next) is None else choice.next,
            "" if plain(choice.ratio) is None else with_interval(choice.ratio, choice.ratio_ci95, "ratio"),
            *(choice.verdict, choice.reason),
        ]
        for choice in recommendation.choices
    ]
    columns = [*BEGIN, Column("runner"), Column("device", detail=True), Column("measured", "us"), Column("next")]
    columns += [Column("times as fast as the next (95 %)", "ratio"), Column("verdict", VERDICT)]
    columns += [Column("why", detail=True)]
    return Table("What to run: the fastest of the runners that passed", columns, rows)


def ranking(recommendation: Seen[Recommendation]) -> Table:
    """Return all runners that passed, for each batch size and goal the fastest first."""
    machine = plain(recommendation).machine
    rows: list[list[Cell]] = [
        [choice.batch, choice.goal, place, one.runner, machine.label(plain(one.device)), _value(one.value, unit)]
        for choice in recommendation.choices
        for unit in [plain(choice.unit)]
        for place, one in enumerate(choice.ranking, 1)
    ]
    columns = [*BEGIN, Column("place", "count"), Column("runner"), Column("device"), Column("measured", "us")]
    return Table("All that passed, the fastest first", columns, rows)


def excluded(recommendation: Seen[Recommendation]) -> Table:
    """Return the runners that cannot be recommended, and why."""
    rows = [[one.runner, one.reason] for one in recommendation.excluded]
    return Table("Runners that cannot be recommended", [Column("runner"), Column("why")], rows)


def _value(value: Any, unit: str) -> Mixed:
    return Mixed((Number(value, "us"), " µs")) if unit == "us" else Mixed((Number(value, "rate"), " items/s"))
