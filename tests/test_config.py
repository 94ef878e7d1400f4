"""The configuration: where values come from, and what an error tells."""

import tomllib
from pathlib import Path

import pytest

from pipeline import config, precisions
from pipeline.config import Config, loading, writing
from pipeline.errors import ConfigError


def refusal(*assignments: str, file: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loading.load(file, assignments)
    assert caught.value.exit_code == 2
    return caught.value


def test_defaults_apply_where_nothing_is_set() -> None:
    found = loading.load()
    assert found == Config()
    assert (found.data.name, found.model.source, found.train.epochs) == ("auto", "article-cnn", "auto")
    assert found.engine.precisions == ("fp32", "tf32", "fp16")


def test_set_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text("artifacts = 'elsewhere'\n[train]\nepochs = 2\nseed = 7\n[validate]\nbatch_size = 16\n")
    found = loading.load(file, ["train.epochs=3", "train.epochs=4"])
    assert (found.train.epochs, found.train.seed, found.train.batch_size) == (4, 7, "auto")
    assert (found.artifacts, found.validate_.batch_size) == (Path("elsewhere"), 16)


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("data.name=mnist", "data", "name", "mnist"),
        ("data.name='mnist'", "data", "name", "mnist"),
        ("data.dir=/some/folder with space", "data", "dir", "/some/folder with space"),
        (" train.epochs = 3", "train", "epochs", 3),
        ("train.learning_rate=1e-4", "train", "learning_rate", 1e-4),
        ("model.source=package.module:function", "model", "source", "package.module:function"),
        ("engine.precisions=fp32, fp16", "engine", "precisions", ["fp32", "fp16"]),
        ('engine.precisions=["fp16"]', "engine", "precisions", ["fp16"]),
        ("engine.precisions=fp16,fp32,fp16", "engine", "precisions", ["fp16", "fp32"]),
        ("engine.targets=sm86,sm120", "engine", "targets", ["sm86", "sm120"]),
        ("engine.targets=", "engine", "targets", []),
        ("benchmark.batch_sizes=1,16", "benchmark", "batch_sizes", [1, 16]),
        ("benchmark.batch_sizes=[1, 16]", "benchmark", "batch_sizes", [1, 16]),
        ("benchmark.batch_sizes=8", "benchmark", "batch_sizes", [8]),
        ("benchmark.allow_failed=true", "benchmark", "allow_failed", True),
        ("validate.budget=1", "validate", "budget", 1.0),
    ],
)
def test_set_takes_toml_bare_words_and_lists_with_commas(
    assignment: str, section: str, key: str, value: object
) -> None:
    assert loading.load(None, [assignment]).section(section)[key] == value


@pytest.mark.parametrize(
    ("assignments", "named"),
    [
        (["trian.epochs=1"], ["'trian'", "did you mean 'train'", "export", "benchmark", "validate"]),
        (["epochs=1"], ["'epochs'", "allowed: artifacts, data"]),
        (
            ["train.epoch=1"],
            ["'train.epoch'", "did you mean 'epochs'", "allowed: recipe, epochs, batch_size, learning_rate"],
        ),
        (["validate.batch=1"], ["'validate.batch'", "budget"]),
        (["data.name=cifar"], ["data.name = 'cifar'", "'auto', 'mnist' or 'digits'"]),
        (["data.name.x=1"], ["data.name", "{'x': 1}", "'auto', 'mnist' or 'digits'"]),
        (["engine.flavour=trt"], ["engine.flavour = 'trt'", "'tensorrt' or 'tensorrt-rtx'"]),
        (["train.epochs=-1"], ["train.epochs = -1", "'auto'", "greater than or equal to 0"]),
        (["train.epochs=many"], ["train.epochs = 'many'", "'auto'", "integer"]),
        (["train.batch_size=0"], ["train.batch_size = 0", "greater than or equal to 1"]),
        (["export.opset=19"], ["export.opset = 19", "less than or equal to 18"]),
        (["engine.optimization_level=6"], ["engine.optimization_level = 6", "less than or equal to 5"]),
        (["benchmark.batch_sizes=1,0"], ["benchmark.batch_sizes = '0'", "greater than or equal to 1"]),
        (["benchmark.batch_sizes="], ["benchmark.batch_sizes", "at least 1"]),
        (["engine.precisions=fp32,fp4"], ["engine.precisions = 'fp32,fp4'", "'fp4'", *precisions.NAMES]),
        (["engine.precisions="], ["engine.precisions = []", "at least 1"]),
        (["engine.profiles=[[65, 64, 1024]]"], ["engine.profiles", "[65, 64, 1024] must be 1 ≤ smallest ≤ best"]),
        (["engine.profiles=[[1, 1, 1], [0, 8, 8]]"], ["engine.profiles", "[0, 8, 8] must be"]),
        (["engine.profiles=[[64, 64, 64], [1, 1, 1]]"], ["engine.profiles", "no profile takes batches of 2 to 63"]),
        (["engine.profiles=[1, 64, 1024]"], ["engine.profiles = [1, 64, 1024]", "auto or a list of [smallest, best"]),
        (["engine.profiles=[]"], ["engine.profiles = []", "auto or a list"]),
        (["engine.profiles=[[1, 2]]"], ["engine.profiles = [[1, 2]]", "auto or a list"]),
        (["engine.profiles=many"], ["engine.profiles = 'many'", "auto or a list"]),
        (["engine.batch_opt=32", "engine.batch_max=256"], ["batch_opt, batch_max: replaced by", "[[1, 32, 256]]"]),
        (["engine.batch_min=2"], ["batch_min: replaced by engine.profiles", "[[2, 64, 1024]]"]),
        (["data.source=mnist"], ["data.source", "'mnist'", "data.name", "./mnist"]),
        (["model.source="], ["model.source", "at least 1 character"]),
        (["engine.ranges.text.1=[3,2,1]"], ["ranges.text.1 must be 1 ≤ smallest ≤ best ≤ largest"]),
        (["data.name=mnist", "data.source=a:b"], ["data.name", "'mnist'", "data.source", "'a:b'", "not both"]),
        (["data=3"], ["data = 3"]),
        (["train.seed=-1", "train.batch_size=x"], ["train.seed = -1", "train.batch_size = 'x'"]),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(assignments: list[str], named: list[str]) -> None:
    message = refusal(*assignments).message
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    "assignment",
    ["train.learning_rate=inf", "train.learning_rate=nan", "validate.budget=inf", "benchmark.warmup_s=inf"],
)
def test_a_number_that_is_not_finite_is_refused(assignment: str) -> None:
    assert assignment.replace("=", " = ") in refusal(assignment).message


@pytest.mark.parametrize("key", ["train.batch_size", "train.epochs", "benchmark.batch_sizes", "train.learning_rate"])
def test_true_is_not_quietly_taken_for_the_number_one(key: str) -> None:
    assert key in refusal(f"{key}=true").message


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", "train.=3", ".epochs=3", ""])
def test_an_assignment_that_is_none_is_named(assignment: str) -> None:
    error = refusal(assignment)
    assert repr(assignment) in error.message
    assert "section.key=value" in error.message
    assert "--set train.epochs=3" in error.hint


def test_a_value_cannot_be_used_as_a_section() -> None:
    assert "'train' is a value, not a section" in refusal("train=3", "train.epochs=3").message


@pytest.mark.parametrize("content", ["[train\nepochs = 3", "train.epochs = three", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    assert f"{file} is not TOML" in refusal(file=file).message


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    assert f"cannot read {tmp_path / name}" in refusal(file=tmp_path / name).message


def test_a_bad_value_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text("[train]\nepochs = -1\n")
    assert "train.epochs = -1" in refusal(file=file).message


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ['data.dir=/odd "folder"\\äöü', "engine.workspace_mib=64", "engine.optimization_level=5"],
        ["train.epochs=7", "train.learning_rate=1e-7", "engine.precisions=fp16", "engine.targets=sm86", "artifacts=x"],
    ],
)
def test_the_printed_configuration_reads_back_as_the_same(tmp_path: Path, assignments: list[str]) -> None:
    wanted = loading.load(None, assignments)
    file = tmp_path / "printed.toml"
    file.write_text(writing.to_toml(wanted), encoding="utf-8")
    assert loading.load(file) == wanted


def test_every_key_is_printed_in_its_section() -> None:
    # What has no value is a comment in TOML: uncommented, the text must name every key that there is.
    lines = [line.removeprefix("# ").replace(" = …", " = ''") for line in writing.to_toml(Config()).splitlines()]
    printed = tomllib.loads("\n".join(line for line in lines if " = " in line or line.startswith("[")))
    expected = {name: set(section.model_fields) for name, section in config.sections()}
    assert printed.pop("artifacts") == "artifacts"
    assert {name: set(keys) for name, keys in printed.items()} == expected
    assert {info.alias or name for name, info in Config.model_fields.items()} == {"artifacts", *expected}


def test_a_loaded_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.epochs = 3


@pytest.mark.parametrize(
    "assignment",
    [
        "train.seed=4294967296",
        "engine.calibration_seed=4294967296",
        "train.epochs=2147483648",
        "train.batch_size=2147483648",
        "engine.profiles=[[1, 1, 2147483648]]",
        "engine.ranges.text.1=[1, 1, 2147483648]",
        "validate.batch_size=2147483648",
        "validate.batch_sizes=1,2147483648",
        "benchmark.batch_sizes=1,2147483648",
        "benchmark.threads=1000000",
        "benchmark.seconds=1e300",
        "data.download_timeout_s=1e300",
        "score.workers=1000000",
        "serve.timeout_s=1e300",
        f"train.seed={'9' * 5_000}",
        f"engine.profiles={'[' * 5_000}",
    ],
    ids=lambda assignment: assignment[:40],
)
def test_values_that_no_library_takes_are_refused(assignment: str) -> None:
    assert assignment.partition("=")[0].split(".")[1] in refusal(assignment).message


@pytest.mark.parametrize("text", [f"[train]\nseed = {'9' * 5_000}", f"x = {'[' * 5_000}"])
def test_a_file_that_no_parser_takes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pipeline.toml").write_text(text)
    assert "is not TOML" in refusal(file=tmp_path / "pipeline.toml").message
