"""The net under changes of the code: the keys of every published JSON file are those that readers know.

A change that is meant raises the file's schema; `python tests/test_golden.py RUN/artifacts` writes them anew.
"""

import json
import sys
from pathlib import Path

from keys import of_run

GOLDEN = Path(__file__).parents[1] / "data" / "golden_keys.json"


def test_every_key_of_every_artifact_is_one_that_readers_know(main_job: Path) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    found = of_run(main_job / "artifacts")
    assert found.keys() <= golden.keys(), "a file that nobody knows"
    for name, keys in found.items():
        assert set(keys) <= set(golden[name]), f"{name} has keys that nobody knows"
        optional = {key for key in golden[name] if any(part in key for part in ("calibration/", "judgement/", "plan"))}
        assert set(golden[name]) - set(keys) <= optional, f"{name} lacks keys that readers look for"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(of_run(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
