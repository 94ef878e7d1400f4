"""Tables on a terminal and in Markdown; the report's page has its own renderer, for it also shows sources."""

from collections.abc import Iterable

import rich.table
from rich.text import Text

from pipeline import texts
from pipeline.tables.table import BAD, DOUBTFUL, GOOD, VERDICT, Table

STYLES = dict.fromkeys(GOOD, "green") | dict.fromkeys(DOUBTFUL, "yellow") | dict.fromkeys(BAD, "bold red")
"""How a verdict's words are drawn."""


def terminal(table: Table) -> rich.table.Table:
    """Return a table for a terminal, without the columns that are details.

    On a narrow terminal text is folded and nothing is cut off; names from artifacts are never taken for markup.
    """
    drawn = rich.table.Table(title=Text(table.title), title_justify="left")
    shown = [index for index, column in enumerate(table.columns) if not column.detail]
    for index in shown:
        column = table.columns[index]
        drawn.add_column(Text(column.name), justify="right" if column.numeric else "left", overflow="fold")
    for row in table.texts():
        drawn.add_row(*(_styled(texts.harmless(row[index]), table.columns[index].kind) for index in shown))
    return drawn


def _styled(text: str, kind: str) -> Text:
    return Text(text, style=STYLES.get(text.partition(":")[0], "") if kind == VERDICT else "")


def markdown(table: Table) -> str:
    """Return a table as Markdown with all its columns; its title is for a heading above it, and not in it."""
    lines = [
        _line(texts.markdown(column.name) for column in table.columns),
        _line("---:" if column.numeric else "---" for column in table.columns),
    ]
    for row in table.texts():
        pairs = zip(row, table.columns, strict=True)
        lines.append(_line(_bold(text) if column.kind == VERDICT else texts.markdown(text) for text, column in pairs))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bold(text: str) -> str:
    verdict, colon, why = texts.markdown(text).partition(":")
    return f"**{verdict}**{colon}{why}" if verdict else ""
