"""The bundle in words, for whoever finds it: README.md in it."""

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader

from pipeline import texts
from pipeline.artifacts.bundle import BundleRecord

LABELS = "labels"
LONGEST = 100
"""Of the name of a file: most file systems take 255 bytes."""


def labels_of(output: str) -> str:
    """Return the name of the file with the classes of an output."""
    return re.sub(r"[^\w.-]", "_", output)[:LONGEST] + ".txt"


def write(record: BundleRecord, folder: Path) -> None:
    """Write README.md, and the names of each output's classes as a text file, a line each."""
    environment = Environment(
        loader=PackageLoader("pipeline.deployment"),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  Markdown, of which nothing is the record's
        finalize=texts.markdown,
    )
    text = environment.get_template("README.md.j2").render(record=record, best=record.runners[0])
    (folder / "README.md").write_text(text, encoding="utf-8")
    for one in record.outputs:
        if one.classes:
            labels = folder / LABELS / labels_of(one.name)
            labels.parent.mkdir(exist_ok=True)
            labels.write_text("".join(f"{texts.on_one_line(name)}\n" for name in one.classes), encoding="utf-8")
