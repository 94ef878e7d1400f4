"""Where stages say what they do, on a terminal or in a log: texts of others never command the terminal."""

from collections.abc import Iterator

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from pipeline import texts


class Console(rich.console.Console):
    """A console of rich's that shows control characters of what it prints; those it makes itself are kept."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield what a renderable is drawn with."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else texts.harmless(text), style, control)
