"""Log lines as JSON on standard error, one an event, without anything of what clients send."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What every record has: the rest is what the event tells of itself."""


class JsonLines(logging.Formatter):
    """A record as an object: when, how grave, who, what happened, and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        said |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str, ensure_ascii=False)


def to_stderr(level: int = logging.INFO) -> None:
    """Send the log of the server, and warnings of the libraries it is made of, to standard error."""
    # A descriptor of its own: while a session is opened, the process's standard error is turned away.
    handler = logging.StreamHandler(os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1))
    handler.setFormatter(JsonLines())
    for name, lowest in (("pipeline.serving", level), ("uvicorn", logging.ERROR), ("grpc", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(lowest)
