"""Signals at random moments of every command: its exit code, nothing left, and what was published whole."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.torture import checks, commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Case, Place
from benchmarks.torture.commands import HEAVY, LIGHT
from pipeline.errors import Preempted

MOMENTS = {"heavy": 2, "light": 3}
"""Moments for each command and signal."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
SERVE = {
    "serve": ("serve", "artifacts", "--set=serve.http_port=0", "--set=serve.grpc_port=0", *commands.CONFIG),
}
"""Which ends by a signal alone."""

SENT = commands.COMMANDS | SERVE
LONGEST_S = {
    "all": 30.0,
    "train": 8.0,
    "export": 14.0,
    "benchmark": 12.0,
    "localise": 14.0,
    "validate": 9.0,
    "serve": 4.0,
}
"""A signal comes before that; one that comes after the end is no case of its own."""


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each command, each signal, some moments."""
    for of, some in (("heavy", HEAVY), ("light", LIGHT | SERVE)):
        for command in some:
            for number in SIGNALS:
                if number == signal.SIGHUP and command in SERVE:  # by which it takes a new bundle
                    continue
                for moment in range(MOMENTS[of]):
                    after_s = chance.uniform(0, LONGEST_S.get(command, 6.0 if of == "heavy" else 2.5))
                    name = f"{command}: {number.name} {moment}"
                    yield Case("signals", name, partial(_sent, command, number, after_s))


def _sent(command: str, number: signal.Signals, after_s: float, place: Place) -> None:
    artifacts = place.copied()
    killed = number == signal.SIGKILL

    def send(process: "subprocess.Popen[bytes]") -> None:
        time.sleep(after_s)
        if process.poll() is None:
            os.kill(process.pid, number)

    ended = commands.run(place, SENT[command], meanwhile=send, killed=killed)
    codes = {0, 128 + number}
    if number == signal.SIGTERM and command in ("train", "all"):
        codes.add(Preempted.exit_code)
    if killed or not ended.said:  # in its first moments the interpreter has no handlers, and says nothing
        codes.add(-number)
    commands.expect(ended, codes)
    published = stages(place.base)
    checks.whole(artifacts, published, interrupted=killed)
    if killed and command in LIGHT:
        commands.expect(commands.run(place, LIGHT[command]), (0,))
        checks.whole(artifacts, published)
