"""What a bundle is made of, as CycloneDX 1.6 with a model card: models, data, and the software that made them.

Written as plain JSON: the CycloneDX library for Python knows no model cards; a test holds the file to its schema.
"""

import uuid
from pathlib import Path
from typing import Any

from pipeline import digests, listing
from pipeline.artifacts.bundle import BundledRunner, BundleRecord
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.record import dump_json
from pipeline.artifacts.store import Published

FILE = "bom.cdx.json"


def write(record: BundleRecord, published: Published, folder: Path) -> None:
    """Write the bill of materials of a bundle whose models are already in the folder."""
    model, data = published.read(ModelRecord), published.read(DatasetRecord)
    parity = published.read(ParityReport)
    best = record.runners[0]
    files = {one.runner.file: one for one in reversed(record.runners)}
    tree = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": record.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {
                "components": [
                    {"type": "application", "name": "keras-tensorrt-pipeline", "version": record.pipeline},
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": record.name,
                "version": str(record.version),
                "description": f"{model.name}, from {model.origin}; {best.runner.name}: {best.reason}",
                "modelCard": _model_card(record, parity),
            },
        },
        "components": [
            *(_model(file, one, folder) for file, one in sorted(files.items())),
            _data(data),
            *(
                {
                    "type": "library",
                    "bom-ref": f"pkg:pypi/{name}@{version}",
                    "name": name,
                    "version": version,
                    "purl": f"pkg:pypi/{name}@{version}",
                }
                for name, version in sorted(record.versions.items())
                if name != "python"
            ),
            {"type": "platform", "bom-ref": "python", "name": "python", "version": record.versions["python"]},
        ],
        "dependencies": [{"ref": "model", "dependsOn": [*sorted(files), "data"]}],
    }
    (folder / FILE).write_text(dump_json(tree), encoding="utf-8")


def _model(file: str, one: BundledRunner, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": file,
        "name": file,
        "description": f"{one.runner.precision}, {one.runner.role}; {one.verdict}: {one.reason}",
    }
    path = folder / file
    if path.is_file():
        return found | {"hashes": [{"alg": "SHA-256", "content": digests.of_file(path)}]}
    return found | {
        "components": [
            {
                "type": "file",
                "name": part.relative_to(folder).as_posix(),
                "hashes": [{"alg": "SHA-256", "content": digests.of_file(part)}],
            }
            for part in listing.files(path)
        ]
    }


def _data(data: DatasetRecord) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": "data",
        "name": data.name,
        "description": data.origin,
        "data": [
            {
                "type": "dataset",
                "name": split,
                "description": f"{getattr(data.samples, split):,} samples",
                "contents": {
                    "properties": [
                        {"name": "sha256 of names, shapes, types and values", "value": getattr(data.sha256, split)}
                    ]
                },
            }
            for split in ("train", "validation", "test")
        ],
    }


def _model_card(record: BundleRecord, parity: ParityReport) -> dict[str, Any]:
    judged = parity.judged(record.runners[0].runner)
    compared = judged.total.outputs if judged and judged.total else ()
    return {
        "modelParameters": {
            "task": ", ".join(sorted({one.task for one in record.outputs if one.task})) or "not known",
            "datasets": [{"ref": "data"}],
            "inputs": [{"format": one.words} for one in record.inputs],
            "outputs": [{"format": one.words} for one in record.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": f"{one.measured}{f' of {one.output}' if one.output else ''}",
                    "value": f"{one.candidate:.6g}",
                    "slice": f"{record.judged_on.split} split, {one.samples} samples",
                }
                | (
                    {
                        "confidenceInterval": {
                            "lowerBound": f"loss {one.loss_ci95[0]:.4g} {one.unit}",
                            "upperBound": f"loss {one.loss_ci95[1]:.4g} {one.unit}",
                        }
                    }
                    if one.loss_ci95
                    else {}
                )
                for one in compared
                if one.candidate is not None
            ]
        },
    }
