"""The bill of materials: as CycloneDX's schema says, and about the files that are there."""

import json
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipeline import digests
from pipeline.artifacts.bundle import BundleRecord


def test_it_is_as_its_schema_says(bundle: Path) -> None:
    text = (bundle / "bom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = text.replace('"machine-learning-model"', '"machine-learning"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None, "the validator sees mistakes"


def test_it_lists_what_runs_with_its_digest_and_how_good_it_is(bundle: Path) -> None:
    bom = json.loads((bundle / "bom.cdx.json").read_text(encoding="utf-8"))
    record = BundleRecord.read(bundle / "bundle.json")
    listed = {one["bom-ref"]: one for one in bom["components"]}
    file = record.runners[0].runner.file
    assert listed[file]["hashes"] == [{"alg": "SHA-256", "content": digests.of_file(bundle / file)}]
    assert {one.runner.file for one in record.runners} <= set(listed)
    assert {f"pkg:pypi/{name}@{version}" for name, version in record.versions.items() if name != "python"} <= set(
        listed
    )
    card = bom["metadata"]["component"]["modelCard"]
    metric = card["quantitativeAnalysis"]["performanceMetrics"][0]
    assert metric["type"].startswith("accuracy")
    assert 0.5 < float(metric["value"]) <= 1
    assert listed["data"]["data"][2]["contents"]["properties"][0]["value"]
