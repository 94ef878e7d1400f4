"""What can go wrong, each kind with its exit code.

    PipelineError            message + hint: what happened, what to do
    ├ ConfigError        2   an option, a key, a value
    │ └ DataError        2   a dataset or an image that cannot be used as it is
    ├ InputError         2   a feed that does not fit the model: its names, shapes or types
    │ └ BatchOutsideProfile  2   a batch that an engine, or a graph with a fixed batch, was not built for
    ├ ArtifactError      3   missing, stale, changed since it was published, or could not be written
    │ ├ NotPublished     3   missing or stale: running its stage is all it takes
    │ └ NotWritable      3   a folder of artifacts that can be read at most
    ├ BackendUnavailable 4   asked for by name and not available on this machine
    ├ BuildError         5   a graph or an engine that cannot be built, with the builder's own words
    ├ ParityError        6   accuracy outside its budget
    ├ RegressionError    7   slower than the results compared with (--fail-on-regression)
    ├ Preempted          8   SIGTERM while training, after a checkpoint: the same command goes on from it
    ├ LimitReached       9   memory, open files, threads, or room for temporary files ran out
    └ Interrupted      130   Ctrl-C; 143 SIGTERM, 129 SIGHUP (pipeline.interruption); the message says what is kept

Anything else that is raised is a bug of the pipeline: traceback, exit 1.
"""

from typing import ClassVar


class PipelineError(Exception):
    """Base of every expected failure.

    `message` says what happened, in one or more lines; `hint` says what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(PipelineError):
    """An unknown key, a bad value, a name that does not exist."""

    exit_code = 2


class DataError(ConfigError):
    """A dataset, an image or a user's function that cannot be used as it is."""


class InputError(PipelineError):
    """A feed that does not fit the model: its names, shapes or types."""

    exit_code = 2


class BatchOutsideProfile(InputError):  # noqa: N818  says what is the matter
    """A batch that an engine, or a graph with a fixed batch, was not built for; all else of the feed fits."""


class ArtifactError(PipelineError):
    """An artifact that is missing, stale, changed since it was published, or could not be written."""

    exit_code = 3


class NotPublished(ArtifactError):  # noqa: N818  says what is the matter
    """An artifact that its stage has not published yet, or not since what it is made from has changed."""


class NotWritable(ArtifactError):  # noqa: N818  says what is the matter
    """A folder of artifacts that can be read at most."""


class BackendUnavailable(PipelineError):  # noqa: N818  reads better where it is caught
    """A way to run a model that this machine does not offer."""

    exit_code = 4


class BuildError(PipelineError):
    """A typed graph or an engine that cannot be built as asked."""

    exit_code = 5


class ParityError(PipelineError):
    """A runner whose outputs or accuracy differ more than allowed."""

    exit_code = 6


class RegressionError(PipelineError):
    """A cell slower than in the results it was compared with."""

    exit_code = 7


class Preempted(PipelineError):  # noqa: N818  an interruption is no error of anything
    """Stopped by SIGTERM, as a scheduler sends it, after a checkpoint: the same command goes on from it."""

    exit_code = 8


class LimitReached(PipelineError):  # noqa: N818  says what is the matter
    """What a process needs ran out: memory, open files, threads, or room for temporary files."""

    exit_code = 9


class Interrupted(PipelineError):  # noqa: N818  an interruption is no error of anything
    """Stopped by Ctrl-C or another signal; the message says what is kept of what was done until then."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """Return an error in one line, for a reason in a table: a library's own may have many, or none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
