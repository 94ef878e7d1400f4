"""Configurations as fuzzers write them: a configuration, or a ConfigError, and nothing else."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import Config, sections
from pipeline.config.loading import load
from pipeline.config.writing import to_toml
from pipeline.errors import ConfigError

KEYS = ["artifacts", *(f"{name}.{key}" for name, section in sections() for key in section.model_fields)]
ODD = (
    *("", "1e999", "nan", "-inf", "9" * 5000, "0x" + "f" * 500, "1979-05-27", "07:32:00", "[" * 2000, "{a=" * 2000),
    *("[[1,2,3]]", "{}", "[]", "''", "'\0'", "\0", "a\nb", "\ud800", "'\udcff'", "true", "-1", "2.5", "[1, 'a']"),
    *("{'' = 1}", "{a = {b = [1]}}", "auto", "int8,fp16", "0", '"\\u0000"', '"\\U0010ffff"'),
)
VALUES = st.one_of(
    st.text(),
    st.sampled_from(ODD),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=4).map(str),
)


def tried(file: Path | None, assignments: Sequence[str] = ()) -> Config | None:
    """Return a configuration, or None where it is refused in words."""
    with suppress(ConfigError):  # and nothing else
        return load(file, assignments)
    return None


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.sampled_from(KEYS), st.text(max_size=12)), VALUES), min_size=1, max_size=3))
@example([("train.epochs", "9" * 5000)])
@example([("data.source", "'\udcff'")])
@example([("\udcff", "1")])
@example([("train.\udcff", "1")])
def test_whatever_is_set_gives_a_configuration_or_an_error(pairs: list[tuple[str, str]]) -> None:
    found = tried(None, [f"{key}={value}" for key, value in pairs])
    if found is not None:
        to_toml(found).encode(errors="surrogateescape")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_a_configuration_or_an_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(to_toml(Config()).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=8))
    file = tmp_path_factory.getbasetemp() / "damaged.toml"
    file.write_bytes(bytes(content))
    tried(file)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
@example(content=b"a = " + b"[" * 100_000)
@example(content=b"a" + b".a" * 2_000 + b" = 1")
@example(content=b"[a" + b".a" * 2_000 + b"]")
@example(content=b"\xff")
@example(content=b"train = 1")
@example(content=b"[[train]]")
def test_any_bytes_give_a_configuration_or_an_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    tried(file)


@pytest.mark.parametrize("value", [r'"a\u0000b"', "x" * 5000, "é" * 200], ids=["NUL", "long", "long part"])
@pytest.mark.parametrize(
    "key", ["artifacts", "model.source", "data.source", "data.dir", "report.compare", "deploy.key", "serve.token_file"]
)
def test_a_name_that_no_file_can_have_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} = ") as caught:
        load(None, [f"{key}={value}"])
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\udcff"])
def test_a_file_of_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(Path(name))
