"""The page: its numbers are the artifacts', it loads nothing, and what artifacts say stays text."""

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import QUICK, run_pipeline
from pages import HOSTILE, LAYER, Page, change, hostile, list_anew, read

from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.report import changed, findings, markdown, page


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


def check_numbers(artifacts: Path, html: str) -> int:
    """Look up every number of a page that names its source; return how many there are."""
    traced = [number for number in Page(html).numbers if number.source]
    for number in traced:
        assert number.value == looked_up(artifacts, number.source or ""), number
        read_as, rounding = shown(number.text)
        assert read_as == pytest.approx(number.value, abs=max(rounding, abs(number.value) * 0.005)), number
    return len(traced)


def test_every_number_is_the_one_in_the_artifacts(main_job: Path, html: str) -> None:
    assert check_numbers(main_job / "artifacts", html) > 300


def test_every_number_of_a_made_run_is_the_one_in_its_artifacts(made: Path) -> None:
    assert check_numbers(made, page.render(read(made))) > 400


def test_every_accuracy_latency_and_speedup_that_matters_is_on_the_page(main_job: Path, html: str) -> None:
    sources = {number.source for number in Page(html).numbers}
    parity = ParityReport.read(main_job / "artifacts/validate/parity.json")
    compared = {f"hops/{index}/comparison": hop.comparison for index, hop in enumerate(parity.hops)}
    compared |= {f"runners/{index}/total": one.total for index, one in enumerate(parity.runners)}
    for place, found in compared.items():
        if found is not None:
            place = f"validate/parity.json#/{place}/outputs/0"
            assert {f"{place}/candidate", f"{place}/loss", f"{place}/max_abs"} <= sources
            assert {f"{place}/loss_ci95/0", f"{place}/loss_ci95/1"} <= sources
    results = BenchmarkResults.read(main_job / "artifacts/benchmark/results.json")
    for index, cell in enumerate(results.cells):
        if cell.status == "ok" and cell.runner.role != "harness" and not cell.repeat:
            place = f"benchmark/results.json#/cells/{index}"
            assert {f"{place}/timing/p50_us", f"{place}/timing/items_per_s", f"{place}/limit/share"} <= sources
    recommendation = Recommendation.read(main_job / "artifacts/benchmark/recommendation.json")
    assert recommendation.choices
    for index, choice in enumerate(recommendation.choices):
        place = f"benchmark/recommendation.json#/choices/{index}"
        assert {f"{place}/value", f"{place}/ranking/0/value"} <= sources
        assert choice.ratio is None or f"{place}/ratio" in sources


def test_where_engines_ran_their_own_layers_and_both_modes_are_shown(artifacts: Path) -> None:
    """No GPU here: the artifacts of a machine that has one are made from this one's."""
    layer = {
        "profile": 0,
        "name": "conv2d + relu",
        "kind": "CaskConvolution",
        "reads": "FLOAT16",
        "writes": "FLOAT",
        "details": {},
    }
    summary = {"types": {"FLOAT16": 1}, "fused": 1, "converting": 0}
    profile = {"min": 1, "opt": 64, "max": 64, "layers": summary}
    change(artifacts, "engine/fp16/engine.json", runs_here=True, profiles=[profile])
    (artifacts / "engine/fp16/layers.json").write_text(json.dumps({"schema": 3, "layers": [layer]}), encoding="utf-8")
    list_anew(artifacts, "engine")
    results = change(artifacts, "benchmark/results.json")
    resident, kept = [], {}
    for cell in results["cells"]:
        if cell["status"] == "ok" and cell["runner"]["backend"] == "onnxruntime" and not cell["repeat"]:
            runner = cell["runner"] | {"variant": "cuda", "name": f"onnxruntime cuda {cell['runner']['precision']}"}
            resident.append(cell | {"mode": "compute", "device": "cuda:0", "runner": runner})
            kept[f"{runner['name']}/{cell['batch']}/compute/round0"] = np.arange(1000, 2000)
    assert findings.BESIDE_A_GPU not in unescape(page.render(read(artifacts)))
    change(artifacts, "benchmark/results.json", cells=results["cells"] + resident)
    with np.load(artifacts / "benchmark/samples.npz") as samples:
        kept |= {key: samples[key] for key in samples.files}
    np.savez(artifacts / "benchmark/samples.npz", **kept)
    html = page.render(read(artifacts))
    assert f"the original model on the GPU: {findings.BESIDE_A_GPU}" in unescape(html)
    assert "fp16: 1 of the engine" in html
    assert '<th scope="row">conv2d + relu</th><td>CaskConvolution</td><td>FLOAT16</td><td>FLOAT</td>' in html
    assert "Batch 16, inputs resident on the GPU" in html
    assert re.search(r"fp32: \d+ nodes of its graph", html)


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
    drawn = changed.draw(image)
    assert drawn.startswith("data:image/png;base64,")
    assert changed.draw(image.astype(np.float32)) == drawn, "floats of pixels"
    assert changed.draw((image / 255).astype(np.float32)) == drawn, "and of fractions"


def test_random_inputs_are_said_first(made: Path) -> None:
    change(made, "train/dataset.json", random=True)
    run = read(made)
    for text in (page.render(run), markdown.render(run)):
        assert "Inputs are random numbers" in text
