"""What the report shows of models that take no images, or have several outputs, or no labels."""

import json
from pathlib import Path

import numpy as np
from pages import Page, change, read

from pipeline.report import markdown, page


def several(artifacts: Path, *, labels: bool = True) -> None:
    """Give a made run a second output, a regression, which loses 3 of 2 units by one runner."""
    parity = json.loads((artifacts / "validate/parity.json").read_text())
    age = {"output": "age", "task": "regression", "metric": "mean absolute error", "unit": "target's unit"}
    age |= {"direction": "lower", "budget": 2.0, "interval": "bootstrap", "labels": labels}
    compared = age | {"samples": 540, "max_abs": 4.0, "mean_abs": 1.0, "agreement": None, "reference": 20.0}
    compared |= {"candidate": 23.0, "loss": 3.0, "loss_ci95": [2.5, 3.5], "p": None, "verdict": "fail", "reason": "far"}
    parity["outputs"].append(age | {"form": "", "classes": 0, "why": "made", "budget_why": "made"})
    for row in (*parity["runners"], *parity["hops"]):
        total = row.get("total") or row.get("comparison")
        if total:
            total["outputs"].append(compared)
    change(artifacts, "validate/parity.json", **parity)


def without_images(artifacts: Path) -> None:
    """Make a run's input six numbers, and one of its samples one that got worse."""
    inputs = [{"name": "numbers", "shape": [None, 6], "dtype": "float32"}]
    change(artifacts, "train/dataset.json", inputs=inputs)
    kept = {"input/numbers": np.arange(6, dtype=np.float32)[None]}
    np.savez(artifacts / "validate/disagreements.npz", indices=np.array([7]), **kept)


def test_samples_that_are_no_images_are_tabled_and_called_samples(made: Path) -> None:
    without_images(made)
    parsed = Page(page.render(read(made)))
    assert "Samples that changed" in parsed.text
    assert "0, 1, 2, 3, … (6)" in parsed.text
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert "image" not in parsed.text.lower()


def test_images_are_drawn_with_both_answers(made: Path) -> None:
    parsed = Page(page.render(read(made)))
    assert "Images that changed" in parsed.text
    assert [attributes["alt"] for tag, attributes in parsed.elements if tag == "img"] == ["test image 7"]
    assert "another answer to 1 of 540" in parsed.text
    assert "onnxruntime cpu fp32: the same answer as the original on all 540 images." in parsed.text


def test_several_outputs_have_a_row_each_and_their_own_units(made: Path) -> None:
    several(made)
    run = read(made)
    text, parsed = markdown.render(run), Page(page.render(run))
    assert (
        "| age | 4.0e+00 |  | mean absolute error | 20 | 23 | +3 (+2.5 to +3.5) |  | 1.0e-07 | **fail** | far |" in text
    )
    assert "Budget: probabilities: 0.5 points; age: 2 target's unit." in text
    assert "- age: regression (made), judged by mean absolute error" in text
    assert "age: Each hop" in parsed.text
    assert "age, mean absolute error: 20 → 23" in " ".join(parsed.text.split())


def test_without_labels_it_is_agreement_that_is_told_everywhere(made: Path) -> None:
    parity = json.loads((made / "validate/parity.json").read_text())
    for one in parity["outputs"]:
        one |= {"labels": False, "metric": "same answers"}
    for row in (*parity["runners"], *parity["hops"]):
        for output in (row.get("total") or row.get("comparison") or {"outputs": []})["outputs"]:
            output |= {"labels": False, "metric": "same answers"}
    change(made, "validate/parity.json", **parity)
    change(made, "train/history.json", test=[])
    run = read(made)
    text, parsed = markdown.render(run), Page(page.render(run))
    words = "agreement with the original, no labels: same answers"
    assert f"| {words} before | {words} |" in text
    assert "was not measured, for want of labels" in text
    assert "Agreement with the original, no labels: kept" in parsed.text
    assert words in parsed.text
