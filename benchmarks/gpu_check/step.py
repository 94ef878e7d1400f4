"""`python -m benchmarks.gpu_check.step NAME FILE …`: one of this package's own steps; it writes what it finds to FILE.

Each is a module with `main(found, *arguments)`. An error ends it with its exit code, as the pipeline's commands.
"""

import importlib
import sys
from pathlib import Path

from pipeline import environment
from pipeline.errors import PipelineError

if __name__ == "__main__":
    environment.prepare_tensorflow()
    name, file, *arguments = sys.argv[1:]
    try:
        importlib.import_module(f"benchmarks.gpu_check.{name}").main(Path(file), *arguments)
    except PipelineError as error:
        print(f"error: {error}")
        sys.exit(error.exit_code)
