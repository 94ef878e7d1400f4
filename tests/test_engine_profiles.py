"""The comparison of engines by their profiles, on the article's network."""

import pytest

from benchmarks import engine_profiles, networks
from pipeline.backends.tensorrt import build

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.mark.slow
@pytest.mark.skipif(build.installed_version("tensorrt-rtx") is None, reason="TensorRT for RTX is not installed")
def test_every_engine_is_built_in_both_precisions() -> None:
    found = list(engine_profiles.rows(networks.NETWORKS[0], builds=1))
    assert [(row[1], row[2]) for row in found] == [
        (precision, engine.words) for precision in ("fp32", "fp16") for engine in engine_profiles.engines()
    ]
    one, each, static, fixed, *_ = (int(row[3].replace(",", "")) for row in found)
    assert fixed < static < one < each
    assert found[0][4] == "1.00×"
    lines = list(engine_profiles.table(found))
    assert len(lines) == 2 + len(found)
    assert {line.count("|") for line in lines} == {len(engine_profiles.HEAD) + 1}
