"""`python -m benchmarks.torture.fuzz PARSER CORPUS SCRATCH SEED RUNS`: fuzz a parser, guided by coverage (Atheris).

Ends with exit code 0 where nothing but a value or the project's own errors came out.
"""

import importlib
import sys
from contextlib import suppress
from pathlib import Path

import atheris

from benchmarks.torture.parsers import PARSERS

LONGEST = 4096
"""Bytes of an input."""


def main() -> None:
    """Fuzz."""
    name, corpus, scratch, seed, runs = sys.argv[1:]
    parser, file = PARSERS[name], Path(scratch) / "input"
    with atheris.instrument_imports(include=["pipeline"]):
        module = importlib.import_module(parser.module)
    expected = parser.errors(module)

    def one(content: bytes) -> None:
        file.write_bytes(content)
        with suppress(*expected):
            parser.call(module, file)

    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=4000"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={scratch}/", "-verbosity=0", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
