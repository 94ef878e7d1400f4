"""`python -m benchmarks.torture.fuzz PARSER CORPUS SCRATCH SEED RUNS`: fuzz a parser, guided by coverage (Atheris).

Ends with exit code 0 where nothing but a value or the project's own errors came out.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "pipeline.config",
        "pipeline.data",
        "pipeline.artifacts",
        "pipeline.models",
        "pipeline.graphs",
        "pipeline.serving",
    ]
):
    from benchmarks.torture.parsers import PARSERS
    from pipeline.errors import PipelineError

LONGEST = 4096
"""Bytes of an input."""


def main() -> None:
    """Fuzz."""
    name, corpus, scratch, seed, runs = sys.argv[1:]
    parser, file = PARSERS[name], Path(scratch) / "input"

    expected: tuple[type[Exception], ...] = (PipelineError, *parser.may)

    def one(content: bytes) -> None:
        file.write_bytes(content)
        with suppress(*expected):
            parser.call(file)

    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=4000"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={scratch}/", "-verbosity=0", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
