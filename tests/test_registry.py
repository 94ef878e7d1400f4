"""The listing of a folder is the list of what it offers."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT

from pipeline import backends, precisions, registry
from pipeline.errors import ConfigError


def test_names_are_those_of_modules_and_packages() -> None:
    assert registry.names("pipeline.precisions") == ("bf16", "fp16", "fp32", "fp8", "int8", "tf32") == precisions.NAMES
    assert {"null", "tensorrt"} < set(registry.names("pipeline.backends")) == set(backends.NAMES)


def test_a_package_in_several_folders_is_listed_whole_and_not_imported(tmp_path: Path) -> None:
    for folder, name in (("one", "b"), ("two", "a")):
        (tmp_path / folder / "spread").mkdir(parents=True)
        (tmp_path / folder / "spread" / f"{name}.py").write_text("raise RuntimeError('imported')")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'one')!r}, {str(tmp_path / 'two')!r}]\n"
        "from pipeline import registry\n"
        "assert registry.names('spread') == ('a', 'b'), registry.names('spread')\n"
        "assert 'spread' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_name_that_is_not_listed_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="unknown precision 'fp12'") as caught:
        registry.load("pipeline.precisions", "fp12")
    assert "bf16, fp16" in caught.value.hint
    assert registry.load("pipeline.precisions", "fp16").PRECISION is precisions.get("fp16")


@pytest.mark.parametrize("name", ["pipeline.nowhere", "pipeline.errors"])
def test_what_is_no_package_is_a_bug(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="is not a package"):
        registry.names(name)
