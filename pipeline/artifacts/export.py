"""How the model was exported: by which exporter, and how near to the original what it wrote is."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record


class NotTaken(Record):
    """An exporter that was tried before."""

    exporter: str
    reason: str
    """What it said, or how its file differs from the original."""


class Compared(Record):
    """The outputs on one batch of test samples, against the original's."""

    at: str
    """Which batch: of how many samples, and with which dynamic axis at which end of its range."""
    max_abs: dict[str, float]
    """The largest absolute difference of each output."""


class ExportedFile(Record):
    """One exported file, or folder."""

    file: str
    exporter: str
    not_taken: tuple[NotTaken, ...]
    """The exporters tried before it, in order, and why what they wrote was not taken. None: it was the first."""
    versions: dict[str, str]
    """Of what it works with; PyTorch's are those of its own environment."""
    compared: tuple[Compared, ...]
    """All within the tolerance: a file outside it is not published."""


class ExportRecord(Artifact):
    """Which exporter made each file, why not one before it, and how far the file is from the original."""

    PATH: ClassVar[str] = "export/export.json"

    schema_: Literal[1] = Field(1, alias="schema")
    opset: int
    """Of the ONNX file."""
    rtol: float
    atol: float
    """Outputs count as equal where |exported − original| ≤ atol + rtol · |original|."""
    files: tuple[ExportedFile, ...]

    @property
    def onnx(self) -> ExportedFile:
        """The ONNX file, which everything after is made from."""
        return next(one for one in self.files if one.file == "model.onnx")

    @property
    def sentence(self) -> str:
        """Say in a line who made the ONNX file, and why not another."""
        made = f"The ONNX model is by {self.onnx.exporter}"
        before = "; ".join(f"{one.exporter} was tried before: {one.reason}" for one in self.onnx.not_taken)
        return f"{made}. {before}" if before else f"{made}."
