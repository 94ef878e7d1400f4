"""Every table that people see, described once: the terminal, the report's Markdown and its page draw the same one.

A builder takes an artifact's model, or the same model wrapped by `Traced`, which gives the page the place of each
number. This package loads neither the page's templates nor its charts.
"""

from pipeline.tables.renderers import markdown, terminal
from pipeline.tables.table import Column, Table
from pipeline.tables.traced import Traced

__all__ = ["Column", "Table", "Traced", "markdown", "terminal"]
