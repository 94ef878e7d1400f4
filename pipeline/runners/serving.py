"""Which runner answers: the one asked for, or the fastest that passed validation, as the benchmark measured it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline import backends, environment, precisions
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Choice, Goal, Recommendation
from pipeline.artifacts.selection import Selection
from pipeline.artifacts.store import Published
from pipeline.backends import Session
from pipeline.config import AUTO
from pipeline.errors import BackendUnavailable, ConfigError
from pipeline.runners import Runner, original, runners

PASSED, NOT_VALIDATED = "passed validation", "not validated"


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a backend and a precision by name, or `auto`; for which goal and batch size."""

    backend: str = AUTO
    precision: str = AUTO
    batch: int = 1
    goal: Goal = "latency"
    exact: bool = True
    """Whether an exact run, or an emulated one, may stand in where nothing else runs here."""


@dataclass(frozen=True)
class Served:
    """A runner that may answer; `why` it was taken, and how validation judged it."""

    runner: Runner
    why: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.runner.record.name}: {self.why}; {self.verdict}"


def check(wanted: Wanted) -> None:
    """Raise ConfigError where there is no such backend or precision."""
    known = (AUTO, *backends.names("exported"), *backends.names("original"))
    if wanted.backend not in known:
        raise ConfigError(f"unknown backend {wanted.backend!r}", f"Choose one of: {', '.join(known)}.")
    if wanted.precision != AUTO:
        precisions.get(wanted.precision)
    if wanted.backend in backends.names("original") and wanted.precision not in (AUTO, "fp32"):
        raise ConfigError(f"backend {wanted.backend} runs fp32, not {wanted.precision}", "Choose onnxruntime.")


def candidates(
    published: Published, wanted: Wanted, *, modules: Sequence[str], threads: int | None, trust: bool = False
) -> list[Served]:
    """Return the runners that may answer, the preferred one first.

    Where neither backend nor precision is named, only runners that passed or were not validated are offered.

    Raises:
        ConfigError: there is no such backend or precision.

    Example:
        offered = candidates(published, Wanted(batch=64, goal="throughput"), modules=(), threads=None)
        with opened(offered) as (served, session):
            print(served)  # its name, why it was taken, and how validation judged it
            outputs = session.run({models.INPUT: images})
    """
    check(wanted)
    if wanted.backend in backends.names("original"):
        every = original(published, modules, threads or environment.cpu_count())
        return [
            Served(one, "asked for by name", "the original model") for one in every if one.record.variant == "function"
        ]
    found = runners(published, "serve", modules=modules, threads=threads, trust=trust)
    parity = published.read_if_there(ParityReport)
    offered = [Served(one, why, _verdict(parity, one)) for one, why in _in_order(found, published, wanted)]
    if wanted.backend == wanted.precision == AUTO:
        offered = [one for one in offered if one.verdict in (PASSED, NOT_VALIDATED)]
    return offered


def _in_order(found: Sequence[Runner], published: Published, wanted: Wanted) -> Iterator[tuple[Runner, str]]:
    """Yield what fits, the fastest by the benchmark first; then what it did not rank; exact runs last."""
    fitting = [
        one
        for one in found
        if wanted.backend in (AUTO, one.record.backend)
        and wanted.precision in (AUTO, one.record.precision)
        and (one.record.role == "exported" or (wanted.exact and one.record.name.startswith("typed ")))
    ]
    choice, why_not = _choice(published, wanted)
    ranked = {row.runner: place for place, row in enumerate(choice.ranking)} if choice else {}
    preferred = wanted.precision if wanted.precision != AUTO else _precision(published)
    chosen = choice.runner if choice else None

    def rank(one: Runner) -> tuple[bool, bool, int, bool, bool]:
        exported = one.record.role == "exported"
        known = ranked.get(one.record.name, len(ranked)) if exported else len(ranked)
        # The chosen one may not be the first of the ranking: among equals it is the simplest.
        return not exported, one.record != chosen, known, one.record.precision != preferred, one.device == "cpu"

    for one in sorted(fitting, key=rank):
        if choice and one.record == chosen:
            yield one, f"recommended for {choice.goal} at batch {choice.batch}: {choice.reason}"
        elif one.record.role != "exported":
            yield one, "exact and unoptimized: no faster runner is available here"
        elif choice and one.record.name in ranked:
            yield one, f"rank {ranked[one.record.name] + 1} of {len(ranked)} by {choice.goal} at batch {choice.batch}"
        else:
            yield one, why_not or "not timed by the benchmark"


def _choice(published: Published, wanted: Wanted) -> tuple[Choice | None, str]:
    recommendation = published.read_if_there(Recommendation)
    if recommendation is None:
        return None, "no benchmark yet, so a GPU is preferred"
    here, there = environment.machine(), recommendation.machine
    if (here.cpu, here.cores, here.gpus) != (there.cpu, there.cores, there.gpus):
        return None, f"the benchmark was run on another machine ({there}), so a GPU is preferred"
    return recommendation.choice(wanted.batch, wanted.goal), ""


def _precision(published: Published) -> str:
    """Return the precision to prefer where nothing was measured: the chosen one, else FP32."""
    selection = published.read_if_there(Selection)
    return (selection.chosen if selection else None) or "fp32"


def _verdict(parity: ParityReport | None, runner: Runner) -> str:
    judged = parity.judged(runner.record) if parity else None
    if judged is None or judged.verdict == "skipped":
        return NOT_VALIDATED
    return {"pass": PASSED, "fail": "FAILED validation"}.get(judged.verdict, f"validation is {judged.verdict}")


@contextmanager
def opened(offered: Sequence[Served]) -> Iterator[tuple[Served, Session]]:
    """Open the first of these that this machine offers.

    Raises:
        BackendUnavailable: none is offered here; the reason is the last one's.
    """
    if not offered:
        raise BackendUnavailable("no runner that passed validation is available", "Run `make engine validate`.")
    with ExitStack() as stack:
        for served in offered:
            try:
                session = stack.enter_context(served.runner.open())
                break
            except BackendUnavailable:
                if served is offered[-1]:
                    raise
        yield served, session
