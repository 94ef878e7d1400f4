"""What a stage is given, and what it hands back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.artifacts.manifest import DatasetSummary, Fingerprint, Manifest
from pipeline.artifacts.record import Artifact
from pipeline.artifacts.store import Published
from pipeline.config import Config
from pipeline.errors import ArtifactError, PipelineError


@dataclass(frozen=True)
class Context:
    """What a stage is given: what it declared, and nothing else.

    It reads `published`, writes into `output`, and leaves the publishing to `workflow.run`.
    """

    config: Config
    """The sections and keys it declared; others raise RuntimeError."""
    published: Published
    """The artifacts it declared, verified; others raise RuntimeError."""
    output: Path
    manifests: dict[str, Manifest]
    console: Console
    kept: Path
    """A folder that the stage may keep between its runs; it goes when one of them has published."""
    timing_cache: Path
    """The folder for what TensorRT has measured of kernels; it stays."""
    fingerprint: Callable[[], Fingerprint]
    """Returns what its result depends on, as far as known now."""
    earlier: Callable[[], Published]
    """Returns what the stage itself published the last time, checked, for it to carry over."""
    missing: dict[str, ArtifactError] = field(default_factory=dict)
    """Why artifacts that the stage could do without are not there."""

    def write(self, artifact: Artifact, name: str = "") -> None:
        """Write one of the stage's artifacts; `name`, below the stage's folder, where its kind has several."""
        artifact.write(self.output / (name or artifact.PATH.partition("/")[2]))

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(text, highlight=False, markup=False)

    def say_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Print a line for each reason, of pairs of a name and the reason why it was skipped."""
        names: dict[str, dict[str, None]] = {}
        for name, reason in skipped:
            names.setdefault(reason, {})[name] = None
        for reason, of_it in names.items():
            self.say(f"skipped {', '.join(of_it)}: {reason}")

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(Text.assemble((" WARNING ", "black on yellow"), " ", (text, "bold yellow")))


@dataclass(frozen=True)
class Outcome:
    """What a stage hands to `workflow.run`.

    `failure` is raised after the artifacts, which record it, have been published. `dataset` is set by the stage that
    chooses the data; every later manifest repeats it.
    """

    failure: PipelineError | None = None
    dataset: DatasetSummary | None = None
