"""What stages publish: one frozen model for each JSON file, which writes, reads and documents it; and the store."""

from pipeline.artifacts.bundle import BundleRecord, PlanRecord
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.disagreements import Disagreements
from pipeline.artifacts.engine import EngineLayers, EngineRecord, TuningRecord
from pipeline.artifacts.export import ExportRecord
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.loadgen import LoadgenResult
from pipeline.artifacts.manifest import FileRecord, Manifest
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.selection import Selection
from pipeline.artifacts.sensitivity import LayerSensitivity

PUBLISHED: tuple[type[Artifact], ...] = (
    DatasetRecord,
    ModelRecord,
    TrainingHistory,
    ExportRecord,
    EngineRecord,
    TuningRecord,
    EngineLayers,
    Selection,
    LayerSensitivity,
    ParityReport,
    Disagreements,
    BenchmarkResults,
    Recommendation,
    LoadgenResult,
    BundleRecord,
    PlanRecord,
    Manifest,
)
"""The model of every published JSON file, in the order of the stages."""

__all__ = ["PUBLISHED", "Artifact", "FileRecord", "Manifest", "Record"]
