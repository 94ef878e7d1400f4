"""The page: its numbers are the artifacts', it loads nothing, and what artifacts say stays text."""

import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import QUICK, run_pipeline
from pages import HOSTILE, LAYER, Page, change, hostile, read

from pipeline.errors import ArtifactError
from pipeline.measuring import statistics
from pipeline.report import page
from pipeline.report import run as runs


@pytest.fixture(scope="module")
def html(main_job: Path) -> str:
    return (main_job / "artifacts/report/index.html").read_text(encoding="utf-8")


@pytest.fixture
def artifacts(copy: Path) -> Path:
    """The artifacts of a main job, which a test may change."""
    return copy / "artifacts"


def looked_up(artifacts: Path, source: str) -> Any:
    """Return what stands at a source, from the files alone."""
    file, _, pointer = source.partition("#")
    steps = pointer.strip("/").split("/")
    if file.endswith(".npz"):
        *cell, percentile = steps
        with np.load(artifacts / file) as samples:
            rounds = [samples[key] for key in samples.files if key.startswith("/".join(cell) + "/")]
        level = int(percentile.removeprefix("p")) / 100
        return np.quantile(np.concatenate(rounds), level, method="inverted_cdf") / 1e3
    value = json.loads((artifacts / file).read_text(encoding="utf-8"))
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/").replace("~0", "~")]
    return value


def shown(text: str) -> tuple[float, float]:
    """Return the number that people read, and how far it may be from the exact one by rounding."""
    digits = re.sub(r"[,×%\s]", "", text).replace("−", "-")
    scale = 0.01 if "%" in text else 1.0
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    last = 10.0 ** (int(exponent or 0) - decimals)
    if "%" in text and float(mantissa) >= 10:
        last = 1.0 if not decimals else last
    return float(digits) * scale, 0.5000001 * last * scale


def test_every_number_is_the_one_in_the_artifacts(main_job: Path, html: str) -> None:
    traced = [number for number in Page(html).numbers if number.source]
    for number in traced:
        assert number.value == looked_up(main_job / "artifacts", number.source or ""), number
        read_as, rounding = shown(number.text)
        assert read_as == pytest.approx(number.value, abs=max(rounding, abs(number.value) * 0.005)), number
    assert len(traced) > 300


def test_every_accuracy_latency_and_speedup_that_matters_is_on_the_page(main_job: Path, html: str) -> None:
    sources = {number.source for number in Page(html).numbers}
    parity = json.loads((main_job / "artifacts/validate/parity.json").read_text(encoding="utf-8"))
    for table in ("hops", "totals"):
        for index, row in enumerate(parity[table]):
            if row["executed"]:
                place = f"validate/parity.json#/{table}/{index}"
                assert {f"{place}/accuracy_candidate", f"{place}/accuracy_drop_pp", f"{place}/max_abs"} <= sources
                assert {f"{place}/accuracy_drop_ci95_pp/0", f"{place}/accuracy_drop_ci95_pp/1"} <= sources
    results = json.loads((main_job / "artifacts/benchmark/results.json").read_text(encoding="utf-8"))
    for index, cell in enumerate(results["cells"]):
        if cell["status"] == "ok" and cell["backend"] != "null" and not cell["twin"]:
            place = f"benchmark/results.json#/cells/{index}"
            assert {f"{place}/p50_us", f"{place}/items_per_s", f"{place}/limit/share"} <= sources
    strongest = [row for row in results["speedups"] if row["mode"] == "end_to_end"]
    best = max((row for row in strongest if row["batch"] == 1 and first(row, strongest)), key=lambda row: row["ratio"])
    place = f"benchmark/results.json#/speedups/{results['speedups'].index(best)}"
    assert {f"{place}/ratio", f"{place}/ratio_ci95/0", f"{place}/ratio_ci95/1"} <= sources


def first(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether the row is of its contender's strongest baseline."""
    same = ("backend", "variant", "precision", "batch")
    return row["ratio"] == min(other["ratio"] for other in rows if all(other[key] == row[key] for key in same))


def test_the_headline_names_its_baseline(main_job: Path, html: str) -> None:
    results = json.loads((main_job / "artifacts/benchmark/results.json").read_text(encoding="utf-8"))
    title = re.sub(r"<[^>]+>", "", html[html.index("<h1>") : html.index("</h1>")])
    assert any(f"the speed of {row['over']}" in " ".join(title.split()) for row in results["speedups"])
    assert "Accuracy kept" in title


def test_a_headline_within_the_noise_says_so(artifacts: Path) -> None:
    results = change(artifacts, "benchmark/results.json")
    for row in results["speedups"]:
        row["verdict"] = statistics.UNTOLD
    change(artifacts, "benchmark/results.json", speedups=results["speedups"])
    html = page.render(read(artifacts))
    assert f", {statistics.UNTOLD}" in html[html.index("<h1>") : html.index("</h1>")]


def test_where_engines_ran_their_own_layers_and_both_modes_are_shown(artifacts: Path) -> None:
    """No GPU here: the artifacts of a machine that has one are made from this one's."""
    layer = {"Name": "conv2d + relu", "LayerType": "CaskConvolution"}
    layer |= {"Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Format/Datatype": "Row major linear FP32"}]}
    change(artifacts, "engine/fp16/engine.json", runs_here=True, layers={"types": {"FLOAT16": 1}})
    (artifacts / "engine/fp16/layers.json").write_text(json.dumps({"schema": 1, "layers": [layer]}), encoding="utf-8")
    results = change(artifacts, "benchmark/results.json")
    ok = [cell for cell in results["cells"] if cell["status"] == "ok" and cell["backend"] == "onnxruntime"]
    resident = [cell | {"mode": "compute", "device": "NVIDIA L4", "variant": "cuda", "twin": False} for cell in ok]
    change(artifacts, "benchmark/results.json", cells=results["cells"] + resident)
    with np.load(artifacts / "benchmark/samples.npz") as samples:
        kept = {key: samples[key] for key in samples.files}
    for cell in resident:
        kept[f"onnxruntime/cuda/{cell['precision']}/{cell['batch']}/compute/round0"] = np.arange(1000, 2000)
    np.savez(artifacts / "benchmark/samples.npz", **kept)
    html = page.render(read(artifacts))
    assert "fp16: 1 of the engine" in html
    assert '<th scope="row">conv2d + relu</th><td>CaskConvolution</td><td>FLOAT16</td><td>FLOAT</td>' in html
    assert "Batch 16, inputs resident on the GPU" in html
    assert "fp32: 11 nodes of its graph" in html


def test_nothing_is_loaded_and_no_script_is_there(html: str) -> None:
    parsed = Page(html)
    assert not [tag for tag, _ in parsed.elements if tag in ("script", "link", "iframe", "object", "embed", "base")]
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href", "background"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert not re.search(r"url\(|@import|https?:", "".join(parsed.styles))
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in parsed.elements)
    assert len(html.encode()) < 6_000_000


def test_what_was_not_measured_is_said(html: str) -> None:
    assert "Not measured on this machine." in html or "Everything ran." in html


def test_text_of_the_artifacts_is_shown_and_never_run(artifacts: Path) -> None:
    html = hostile(artifacts)
    parsed = Page(html)
    assert f'<th scope="row">{escape(LAYER)}</th>' in html, "a layer of that name"
    tags = [tag for tag, _ in parsed.elements]
    assert "script" not in tags
    images = [attributes for tag, attributes in parsed.elements if tag == "img"]
    assert all(attributes["src"].startswith("data:image/png") for attributes in images)
    assert not [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    assert parsed.text.count(HOSTILE) > 50
    assert "49" not in {word.strip("'\"") for word in parsed.text.split()}


def test_a_headline_is_only_of_what_passed(artifacts: Path) -> None:
    parity = change(artifacts, "validate/parity.json")
    for row in parity["totals"]:
        row["verdict"] = "inconclusive"
    change(artifacts, "validate/parity.json", totals=parity["totals"], verdict="inconclusive")
    assert runs.headlines(read(artifacts)) == []
    html = page.render(read(artifacts))
    assert "Accuracy not proven" in html
    assert "no speed-up to tell" in html


def test_a_chosen_precision_is_the_headlines(artifacts: Path) -> None:
    manifest = change(artifacts, "engine/manifest.json")
    manifest["outputs"]["selection.json"] = {"sha256": "0", "bytes": 0}
    change(artifacts, "engine/manifest.json", outputs=manifest["outputs"])
    found = {"dataset": {"samples": 1, "split": "validation", "name": "digits"}, "accuracy_budget_pp": 0.5}
    found |= {"schema": 1, "chosen": "fp16", "basis": "bits", "pareto": ["fp16"], "candidates": []}
    (artifacts / "engine/selection.json").write_text(json.dumps(found), encoding="utf-8")
    assert runs.headlines(read(artifacts)) == [], "fp16 is not timed on a CPU; fp32's speed-up is not its"
    (artifacts / "engine/selection.json").write_text(json.dumps(found | {"chosen": "fp32"}), encoding="utf-8")
    assert {row.plain["precision"] for row in runs.headlines(read(artifacts))} == {"fp32"}


def test_runs_are_shown_side_by_side(main_job: Path, artifacts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(main_job / "artifacts", other / "artifacts")
    again = tmp_path / "again"
    shutil.copytree(main_job / "artifacts", again)
    done = run_pipeline("report", *QUICK, "--compare", "other", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    html = (artifacts / "report/index.html").read_text(encoding="utf-8")
    assert "Runs side by side" in html
    sources = {number.source or "" for number in Page(html).numbers}
    assert any(source.startswith("other/artifacts/benchmark/results.json#") for source in sources)
    assert any(source.startswith("again/benchmark/results.json#") for source in sources)
    assert "this run against other" in html
    kept = run_pipeline("report", *QUICK, "--compare", "other", "again", cwd=tmp_path)
    assert "up to date" in kept.stdout
    manifest = other / "artifacts/validate/manifest.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"seconds": ', '"seconds": 1'), encoding="utf-8")
    anew = run_pipeline("report", *QUICK, "--compare", "other", "again", cwd=tmp_path)
    assert "changed: compare" in anew.stdout


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["gpu"], ["gpu"]),
        (["a/gpu", "b/cpu"], ["gpu", "cpu"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["run", "x/run"], ["run", "x/run"]),
        (["run", "run"], ["run", "run"]),
        (["."], ["."]),
    ],
)
def test_runs_are_called_by_what_tells_them_apart(
    monkeypatch: pytest.MonkeyPatch, folders: list[str], names: list[str]
) -> None:
    monkeypatch.setattr(runs, "read_folder", lambda folder, name: name)
    assert runs.read_others([Path(folder) for folder in folders]) == names


def test_what_is_no_run_is_refused_and_the_old_page_stays(artifacts: Path, tmp_path: Path) -> None:
    before = (artifacts / "report/index.html").read_bytes()
    done = run_pipeline("report", *QUICK, "--compare", "nowhere", cwd=tmp_path)
    assert done.returncode == 3
    assert "nowhere has no artifacts of a run" in done.stderr
    assert (artifacts / "report/index.html").read_bytes() == before
    stray = run_pipeline("report", *QUICK, "nowhere", cwd=tmp_path)
    assert stray.returncode == 2
    assert "--compare" in stray.stderr


def test_artifacts_of_an_earlier_version_are_shown_as_far_as_they_go(artifacts: Path) -> None:
    manifest = change(artifacts, "validate/manifest.json")
    del manifest["outputs"]["disagreements.json"]
    change(artifacts, "validate/manifest.json", outputs=manifest["outputs"])
    history = change(artifacts, "train/history.json")
    del history["epoch_seconds"]
    (artifacts / "train/history.json").write_text(json.dumps(history), encoding="utf-8")
    assert "kept no images" in page.render(read(artifacts))
    change(artifacts, "benchmark/results.json", schema=1)
    with pytest.raises(ArtifactError, match="has schema 1, not 2") as caught:
        read(artifacts)
    assert "make benchmark" in caught.value.hint


def test_where_nothing_could_be_timed_the_page_says_so(artifacts: Path) -> None:
    results = change(artifacts, "benchmark/results.json")
    for cell in results["cells"]:
        cell["status"] = "failed"
        cell["reason"] = "the machine was on fire"
    change(artifacts, "benchmark/results.json", cells=results["cells"], speedups=[], noise_floor=[])
    html = page.render(read(artifacts))
    assert "no speed-up to tell" in html
    assert html.count("Nothing could be timed") == 2
    assert "the machine was on fire" in html


def test_open_starts_the_browser_with_the_page(artifacts: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    done = run_pipeline("report", *QUICK, "--open", cwd=tmp_path, BROWSER=f"{browser} %s")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "opened").read_text() == (artifacts / "report/index.html").as_uri()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_an_image_of_any_number_of_channels_is_drawn(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (200, 300, channels), np.uint8)
    assert page.draw(image).startswith("data:image/png;base64,")
