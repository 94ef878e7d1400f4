"""The keys of a JSON file, as paths: what a reader of another version depends on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMED_BY_DATA = {
    *("sha256", "outputs", "inputs", "versions", "classes", "activations", "validation_error", "history", "conditions"),
    *("compute_nodes", "mac_share", "types", "macs_per_s", "tries", "reasons", "settings", "configuration", "metrics"),
    *("variants", "limits"),
}
"""Objects whose keys are data: names of files, packages, tensors, precisions, options."""


def keys(tree: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every key, lists and objects named by data as `*`."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            below = f"{path}/{'*' if path.rpartition('/')[2] in NAMED_BY_DATA else key}"
            yield below
            if key != "fingerprint":  # the configuration, whatever it is
                yield from keys(value, below)
    elif isinstance(tree, list):
        for value in tree:
            yield from keys(value, f"{path}/*")


def of_run(artifacts: Path) -> dict[str, list[str]]:
    """Return the keys of every JSON file of a run, those of all precisions together."""
    found: dict[str, set[str]] = {}
    for file in sorted(artifacts.rglob("*.json")):
        parts = file.relative_to(artifacts).parts
        if "saved_model" in parts or file.name.startswith("mlperf_log"):
            continue
        name = "/".join([parts[0], *("*" for _ in parts[1:-1]), parts[-1]])
        found.setdefault("manifest.json" if file.name == "manifest.json" else name, set()).update(
            keys(json.loads(file.read_text("utf-8")))
        )
    return {name: sorted(paths) for name, paths in found.items()}
