"""A small program that publishes a stage as every stage does: `python -m benchmarks.torture.publisher [TIMES]`.

The last time it looks for a file that is not there, before and after, by which its system calls are found; the times
before import what is imported on the way.
"""

import os
import sys
from pathlib import Path

from pipeline import interruption
from pipeline.artifacts import Manifest
from pipeline.artifacts.store import MANIFEST, Store, records
from pipeline.errors import ArtifactError

STAGE = "report"
BEGUN = Path("the-publication")


def main() -> None:
    """Publish what is there again, with other bytes; exit as the command line does."""
    interruption.begin()
    store = Store(Path("artifacts"))
    before = store.manifest(STAGE)
    assert before is not None
    code = 0
    try:
        times = int(sys.argv[1]) if len(sys.argv) > 1 else 2
        for number in range(times):
            if number == times - 1:
                BEGUN.exists()
            _publish(store, number, before)
        BEGUN.exists()
    except ArtifactError as error:
        code = error.exit_code
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        code = interruption.exit_code()
    interruption.done(code)
    sys.exit(code)


def _publish(store: Store, number: int, before: Manifest) -> None:
    with store.lock():
        store.recover([STAGE])
        with store.publish(STAGE) as folder:
            for name in ("one", "two/three"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(f"{name} {number} {os.getpid()}", encoding="utf-8")
            before.model_copy(update={"outputs": records(folder)}).write(folder / MANIFEST)


if __name__ == "__main__":
    main()
