"""A run read back: what is said of it first, what is refused, and several runs beside each other."""

import re
import shutil
from pathlib import Path

import made_records
import pytest
from commands import QUICK, run_pipeline
from made_records import SAME
from pages import Page, change, list_anew, read

from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.selection import CandidatePrecision, SelectedOn, Selection
from pipeline.errors import ArtifactError
from pipeline.report import markdown, page, training
from pipeline.report import run as runs


def test_the_headline_is_the_recommended_runner_over_the_strongest_original(main_job: Path, html: str) -> None:
    results = BenchmarkResults.read(main_job / "artifacts/benchmark/results.json")
    recommendation = Recommendation.read(main_job / "artifacts/benchmark/recommendation.json")
    choice = recommendation.choice(1, "latency")
    assert choice is not None
    own = [row for row in results.speedups if (row.runner, row.batch) == (choice.runner.name, 1)]
    strongest = min((row for row in own if row.mode == "end_to_end"), key=lambda row: row.ratio)
    place = f"benchmark/results.json#/speedups/{results.speedups.index(strongest)}"
    title = html[html.index("<h1>") : html.index("</h1>")]
    assert f"{place}/ratio" in {number.source for number in Page(title).numbers}
    sources = {number.source for number in Page(html).numbers}
    assert {f"{place}/ratio", f"{place}/ratio_ci95/0", f"{place}/ratio_ci95/1"} <= sources


def test_the_headline_names_its_baseline(main_job: Path, html: str) -> None:
    results = BenchmarkResults.read(main_job / "artifacts/benchmark/results.json")
    title = re.sub(r"<[^>]+>", "", html[html.index("<h1>") : html.index("</h1>")])
    assert any(f"the speed of {row.over}" in " ".join(title.split()) for row in results.speedups)
    assert "Accuracy kept" in title


def test_a_headline_within_the_noise_says_so(artifacts: Path) -> None:
    results = change(artifacts, "benchmark/results.json")
    for row in results["speedups"]:
        row["verdict"] = SAME
    change(artifacts, "benchmark/results.json", speedups=results["speedups"])
    html = page.render(read(artifacts))
    assert f", {SAME}" in html[html.index("<h1>") : html.index("</h1>")]


def test_a_headline_is_only_of_what_passed(artifacts: Path) -> None:
    parity = change(artifacts, "validate/parity.json")
    for row in parity["runners"]:
        row["verdict"] = "inconclusive"
    change(artifacts, "validate/parity.json", runners=parity["runners"], verdict="inconclusive")
    assert runs.headlines(read(artifacts)) == []
    html = page.render(read(artifacts))
    assert "Accuracy not proven" in html
    assert "no speed-up measured" in html


def test_a_headline_is_of_the_very_runner_that_passed(made: Path) -> None:
    results = change(made, "benchmark/results.json")
    assert [row.plain.runner for row in runs.headlines(read(made))] == [made_records.OPENVINO.name] * 2
    parity = change(made, "validate/parity.json")
    for row in parity["runners"]:
        if row["runner"]["name"] == made_records.OPENVINO.name:
            row["runner"]["options"]["threads"] = 7
    change(made, "validate/parity.json", runners=parity["runners"])
    assert runs.headlines(read(made)) == [], "with other options it is another runner"
    assert results["speedups"], "though it was timed"


def test_the_accuracy_shown_first_is_of_the_runner_to_take(made: Path) -> None:
    names = [one.plain.runner.name for one in read(made).accuracies()]
    assert names == ["onnxruntime cpu fp32", "onnxruntime cpu fp16", "openvino cpu int8"]
    change(made, "benchmark/recommendation.json", choices=[])
    assert [one.plain.runner.name for one in read(made).accuracies()][-1] == "onnxruntime cpu int8"


def test_what_fails_is_named_with_its_remedy(made: Path) -> None:
    parity = change(made, "validate/parity.json")
    for row in parity["runners"]:
        if row["runner"]["name"] == made_records.OPENVINO.name:
            row["verdict"] = row["total"]["verdict"] = row["batch_invariance"]["verdict"] = "fail"
            row["total"]["reason"] = "it lost 9 points"
    change(made, "validate/parity.json", runners=parity["runners"], verdict="fail")
    html = page.render(read(made))
    assert "Accuracy lost in openvino cpu int8" in html
    assert "original → openvino cpu int8: it lost 9 points" in html
    assert "openvino cpu int8 in batches of other sizes: within the tolerance" in html
    assert 'make localise ARGS="--precision int8"' in html


def test_what_failed_and_was_not_timed_has_a_page(made: Path) -> None:
    change(made, "validate/parity.json", verdict="fail")
    shutil.rmtree(made / "benchmark")
    html = page.render(read(made))
    assert "not timed" in html[html.index("<h1>") : html.index("</h1>")]
    assert "What to run" not in html
    assert "Nothing was timed: the model failed validation." in html
    assert "Nothing was timed" in markdown.render(read(made))


def test_what_to_run_is_said_with_what_may_not_be_chosen(made: Path) -> None:
    html = page.render(read(made))
    section = html[html.index('<section id="choices">') :]
    text = Page(section[: section.index("</section>")]).text
    for words in (
        "openvino cpu int8",
        "2.20×",
        "All that passed, the fastest first",
        "2 runners that cannot be recommended",
    ):
        assert words in text
    assert made_records.NO_GPU in text
    assert "## What to run" in markdown.render(read(made))


def test_markdown_has_every_section(made: Path) -> None:
    text = markdown.render(read(made))
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        *("## What to run", "## Accuracy: pass", "## Speed", "## Engines"),
        *("## What did not run, and why", "## Versions"),
    ]
    assert "onnxruntime cpu fp32 (A/A repeat)" in text
    assert "3 rounds" in text
    assert "The harness itself, around a call that does nothing: 1.2 µs." in text


def test_a_chosen_precision_is_reported_with_why_not_the_others(made: Path) -> None:
    def candidate(precision: str, rejected: str) -> CandidatePrecision:
        return CandidatePrecision(
            precision=precision,
            cost=16.0,
            mean_bits=16.0,
            onnx_bytes=1,
            engine_bytes=None,
            comparison=made_records.comparison(),
            rejected=rejected,
        )

    Selection(
        chosen="fp16",
        basis="bits",
        pareto=("fp16",),
        candidates=(candidate("fp16", ""), candidate("fp32", "fp16 costs less")),
        dataset=SelectedOn(name="digits", split="validation", samples=300),
        outputs=(made_records.JUDGED,),
    ).write(made / "engine/selection.json")
    list_anew(made, "engine")
    html = page.render(read(made))
    assert "Why fp16 was chosen" in html
    assert "<td>fp16 costs less</td>" in html
    assert "## Chosen precision: fp16" in markdown.render(read(made))


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
    path = other / "artifacts/validate/manifest.json"
    manifest = Manifest.read(path)
    manifest.model_copy(update={"seconds": manifest.seconds + 1}).write(path)
    anew = run_pipeline("report", *QUICK, "--compare", "other", "again", cwd=tmp_path)
    assert "changed: compare" in anew.stdout


def test_trainings_are_measured_by_the_articles_recipe_and_by_one_device(made: Path, tmp_path: Path) -> None:
    def trained(name: str, recipe: str, devices: list[str], accuracies: list[float], rate: float) -> runs.Run:
        folder = tmp_path / name
        shutil.copytree(made, folder)
        epoch = {"seconds": 2.0, "validation_s": 0.5, "waited_s": 0.1, "learning_rate": 0.1}
        epochs = [epoch | {"measures": {"val_accuracy": value, "val_loss": 1.0}} for value in accuracies]
        change(folder, "train/history.json", recipe=recipe, devices=devices, epochs=epochs, samples_per_s=rate)
        list_anew(folder, "train")
        return runs.read_folder(folder, name)

    article = trained("article", "article", ["cpu"], [0.5, 0.9, 0.95], 1000)
    fast = trained("fast", "fast", ["cpu"], [0.96, 0.97], 2000)
    two = trained("two", "fast", ["cuda:0", "cuda:1"], [0.9, 0.94], 3000)
    table = training.beside([fast, article, two])
    assert table.columns[-1].name == "seconds to the article's recipe's val_accuracy, 0.9500"
    found = [list(row)[1:] for row in table.texts()]
    assert found == [
        ["fast", "cpu", "32", "2", "4.00", "2,000", "n/a", "2.00"],
        ["article", "cpu", "32", "3", "6.00", "1,000", "n/a", "6.00"],
        ["fast", "cuda:0 and cuda:1", "32", "2", "4.00", "3,000", "75", "not reached"],
    ]
    alone = training.beside([fast, two])
    assert not any("article" in column.name for column in alone.columns)
    assert "Training side by side" in page.render(fast, [article, two])


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


def test_artifacts_of_another_version_are_refused_with_the_remedy(made: Path) -> None:
    for file, stage in (
        *(("benchmark/results.json", "benchmark"), ("benchmark/recommendation.json", "benchmark")),
        *(("validate/parity.json", "validate"), ("train/history.json", "train"), ("engine/fp32/engine.json", "engine")),
    ):
        number = change(made, file)["schema"]
        change(made, file, schema=99)
        with pytest.raises(ArtifactError, match=f"has schema 99, not {number}") as caught:
            read(made)
        assert f"make {stage}" in caught.value.hint
        change(made, file, schema=number)


def test_where_nothing_could_be_timed_the_page_says_so(artifacts: Path) -> None:
    results = change(artifacts, "benchmark/results.json")
    for cell in results["cells"]:
        cell |= {"status": "failed", "reason": "the machine was on fire", "timing": None, "limit": None}
    change(artifacts, "benchmark/results.json", cells=results["cells"], speedups=[], noise_floor=[])
    change(artifacts, "benchmark/recommendation.json", choices=[])
    html = page.render(read(artifacts))
    assert "no speed-up measured" in html
    assert html.count("Nothing could be timed") == 2
    assert "No runner that passed was timed." in html
    assert "the machine was on fire" in html
