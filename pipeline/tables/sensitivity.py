"""The table on where a precision loses accuracy."""

from pipeline.artifacts.sensitivity import LayerSensitivity
from pipeline.tables.table import VERDICT, Cell, Column, Table
from pipeline.tables.traced import Seen, plain


def layers(found: Seen[LayerSensitivity]) -> Table:
    """Return the layers that were returned to FP32, and how much of the error that recovers."""
    known = plain(found)
    rows: list[list[Cell]] = []
    for group in found.groups:
        # Where these layers hold the last products, nothing would be left in this precision.
        error = "nothing left in this precision" if plain(group.error_alone) is None else group.error_alone
        names = ", ".join(plain(group.layers)) + (" (overflows)" if plain(group.overflows) else "")
        rows.append([names, error, group.won_back, group.verdict])
    columns = [Column("Keras layer in FP32"), Column("remaining error", "difference"), Column("recovered", "share")]
    title = f"Layer sensitivity of {known.precision}, on {known.samples:,} samples"
    return Table(title, [*columns, Column("verdict", VERDICT)], rows)
