"""`make setup` ends with one ONNX Runtime: the recipe is run with a pip that only keeps book."""

import shutil
import subprocess
from pathlib import Path

import pytest
from commands import ROOT

PIP = """#!/usr/bin/env python3
import pathlib, sys
book = pathlib.Path(__file__).with_name("installed")
installed = set(book.read_text().split())
arguments = [argument for argument in sys.argv[1:] if argument not in ("-m", "pip", "--disable-pip-version-check")]
command, names = arguments[0], {argument.partition(">")[0] for argument in arguments[1:]}
if command == "show":
    sys.exit(not names & installed)
if command == "uninstall":
    installed -= names
elif command == "install":
    installed.add("onnxruntime-gpu" if "--no-deps" in arguments else "onnxruntime")
    assert {"onnxruntime", "onnxruntime-gpu"} - installed, "both at once"
book.write_text(" ".join(installed))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text(PIP)
    python.chmod(0o755)
    return tmp_path


def make(project: Path, extras: str, machine: str = "x86_64") -> str:
    for marker in (project / ".venv").glob("installed-*"):
        marker.unlink()
    uname = project / "uname"
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    run = subprocess.run(
        ["make", "setup", f"EXTRAS={extras}", "PYTHON=python3"],
        cwd=project,
        env={"PATH": f"{project}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return (project / ".venv/bin/installed").read_text()


@pytest.mark.parametrize("before", ["", "onnxruntime", "onnxruntime-gpu", "onnxruntime onnxruntime-gpu"])
def test_one_onnx_runtime_is_left_whatever_was_there(before: str, project: Path) -> None:
    for extras, expected in (
        ("dev", "onnxruntime"),
        ("gpu,dev", "onnxruntime-gpu"),
        ("cuda", "onnxruntime-gpu"),
        ("peers,dev", "onnxruntime"),
    ):
        (project / ".venv/bin/installed").write_text(before)
        assert make(project, extras) == expected


def test_an_environment_changes_from_one_to_the_other_and_back(project: Path) -> None:
    (project / ".venv/bin/installed").write_text("")
    found = [make(project, extras) for extras in ("dev", "gpu,dev", "gpu,dev", "dev", "dev")]
    assert found == ["onnxruntime", *["onnxruntime-gpu"] * 2, *["onnxruntime"] * 2]


def test_where_there_is_no_build_for_cuda_12_the_other_stays(project: Path) -> None:
    (project / ".venv/bin/installed").write_text("")
    assert make(project, "gpu,dev", machine="aarch64") == "onnxruntime"
