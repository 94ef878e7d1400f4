"""Load our server, and a real Triton beside it: `make bench-serving` (benchmarks/README.md)."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.serving import closed_loop, faults, open_loop, requests, servers, table
from benchmarks.serving.closed_loop import Loaded
from benchmarks.serving.requests import Sample
from benchmarks.serving.servers import Server
from benchmarks.serving.soak import soak as soaked
from pipeline import environment
from pipeline.deployment import bundle as bundles

CLIENTS = (1, 8, 32, 128)
PARTS = ("closed", "open", "faults", "soak")


def main(
    bundle: Annotated[Path, typer.Option(help="The bundle that is served.")] = Path("artifacts"),
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}; unset: all.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Of load for each cell of a round.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often each cell is measured, the servers in turn.")] = 3,
    soak_minutes: Annotated[float, typer.Option(help="Of the soak.")] = 10.0,
    output: Annotated[Path, typer.Option(help="A Markdown file.")] = Path("artifacts/serving.md"),
) -> None:
    """Measure, print and write the tables."""
    opened = bundles.opened(bundle)
    with opened.runner(opened.record.runners[0]).open() as session:
        samples = requests.drawn(opened.record, session, 16)
    parts, text = only or PARTS, [_head(opened)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "closed" in parts or "open" in parts:
            with ExitStack() as stack:
                there = [stack.enter_context(servers.ours(opened.folder)), *_triton(stack, opened)]
                for title, measure in (("closed", _closed), ("open", _open)):
                    if title in parts:
                        found = list(measure(there, samples, seconds, rounds, folder))
                        text.append(f"## {title.capitalize()} loop\n\n{table.loads(found)}")
        if "faults" in parts:
            seen = list(faults.every(opened.folder, samples, folder))
            text.append(f"## Faults\n\n{table.faults(seen)}")
        if "soak" in parts:
            text.append(f"## Soak\n\n{table.faults([soaked(opened.folder, samples, soak_minutes * 60)])}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def _closed(there: list[Server], samples: list[Sample], seconds: float, rounds: int, folder: Path) -> Iterator[Loaded]:
    programs = [closed_loop.tritonclient_http, closed_loop.tritonclient_grpc]
    programs += [one for one in (closed_loop.wrk, closed_loop.h2load) if shutil.which(one.__name__)]
    for program in programs:
        for clients in CLIENTS:
            for server in _in_turn(there, rounds):
                yield _counted(server, partial(program, server, samples, clients, seconds, folder))


def _open(there: list[Server], samples: list[Sample], seconds: float, rounds: int, folder: Path) -> Iterator[Loaded]:
    """Measure at a quarter, half and three quarters of what the slower server answers to 32 clients."""
    most = min(closed_loop.tritonclient_grpc(server, samples, 32, seconds, folder).per_s for server in there)
    for share in (0.25, 0.5, 0.75):
        for server in _in_turn(there, rounds):
            yield _counted(server, partial(open_loop.arrivals, server, samples, share * most, seconds))


def _in_turn(there: list[Server], rounds: int) -> Iterator[Server]:
    for turn in range(rounds):
        yield from there if turn % 2 == 0 else reversed(there)


def _counted(server: Server, measure: Callable[[], Loaded]) -> Loaded:
    inferred, runs = server.counts()
    found = measure()
    more, again = server.counts()
    load = f"load {os.getloadavg()[0]:.1f}"
    batch = (more - inferred) / (again - runs) if again > runs else None
    print(
        f"{found.server}: {found.client}, {found.clients}: {found.per_s:,.0f}/s, p50 {found.p50_ms} ms; {load}",
        flush=True,
    )
    return found.model_copy(update={"batch": batch})


def _triton(stack: ExitStack, opened: bundles.Bundle) -> list[Server]:
    """Return the real tritonserver with the bundle's repository, where its environment is there."""
    from benchmarks.triton import server as triton

    if not triton.available():
        print("no Triton here: `make triton` sets it up", flush=True)
        return []
    return [stack.enter_context(servers.triton(opened.folder / "triton/onnxruntime", opened.record.name))]


def _head(opened: bundles.Bundle) -> str:
    best = opened.record.runners[0]
    return (
        f"# The server under load, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"{environment.machine()}. {opened.record.name}, {best.runner.name}; clients and servers on the same cores. "
        f"Load average before: {os.getloadavg()[0]:.1f}.\n"
    )


if __name__ == "__main__":
    typer.run(main)
