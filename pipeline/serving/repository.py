"""Which models there are, which of them answer, and how one takes another's place."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifacts.bundle import BundledRunner
from pipeline.config.deploying import Serve
from pipeline.deployment import bundle as bundles
from pipeline.deployment.bundle import Bundle
from pipeline.errors import BackendUnavailable, PipelineError, first_line
from pipeline.serving.model import Counted, Model
from pipeline.serving.refusals import Refused, Why, invalid

log = logging.getLogger(__name__)

State = Literal["READY", "LOADING", "UNAVAILABLE"]


@dataclass(frozen=True)
class Entry:
    """A model of the repository's index."""

    name: str
    version: str
    state: State
    reason: str


class Repository:
    """The runners of one bundle by name, of which some are loaded. Used in the event loop only."""

    def __init__(self, bundle: Bundle, wanted: Serve, trusted_keys: tuple[Path, ...], counted: Counted) -> None:
        self.bundle = bundle
        self._wanted, self._trusted, self._counted = wanted, trusted_keys, counted
        self._ready: dict[str, Model] = {}
        self._reasons: dict[str, str] = {}
        """By name: why it is not loaded, or what there is to know of one that is."""
        self._loading: set[str] = set()
        self._one_at_a_time = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def models(self) -> Iterator[Model]:
        """Yield the models that answer."""
        yield from self._ready.values()

    def model(self, name: str, version: str = "") -> Model:
        """Return a model that answers.

        Raises:
            Refused: there is none of this name, or it is not loaded, or of another version.
        """
        model = self._ready.get(name)
        if model is None:
            self._runner(name)
            raise Refused(Why.NOT_FOUND, f"model {name} is not loaded: POST /v2/repository/models/{name}/load")
        if version and version != model.version:
            raise Refused(Why.NOT_FOUND, f"model {name} has version {model.version}, not {version[:20]}")
        return model

    def index(self) -> list[Entry]:
        """Return what there is, loaded or not."""
        found = []
        for one in self.bundle.record.runners:
            model = self._ready.get(one.name)
            state: State = "READY" if model else "LOADING" if one.name in self._loading else "UNAVAILABLE"
            version = model.version if model else str(self.bundle.record.version)
            found.append(Entry(one.name, version, state, self._reasons.get(one.name, "")))
        return found

    async def start(self) -> Model:
        """Load the recommended runner; where this machine lacks it, the next that was verified. Never the original.

        Raises:
            BackendUnavailable: this machine runs none of them.
        """
        async with self._one_at_a_time:
            model, reason = await self._first_that_runs(self.bundle)
            self._take_over(model, reason)
        return model

    async def load(self, name: str) -> None:
        """Load a model. The one that is served first: from the bundle's folder anew, as a new version may lie there.

        Raises:
            Refused: there is none of this name, or it cannot be loaded; what answered before still does.
        """
        async with self._one_at_a_time:
            self._runner(name)
            self._loading.add(name)
            try:
                await self._load(name)
            except PipelineError as error:
                log.error("load refused", extra={"model": name, "reason": str(error)})
                if name not in self._ready:
                    self._reasons[name] = error.message
                raise Refused(Why.UNAVAILABLE, f"model {name} cannot be loaded: {error.message}") from error
            except Exception as error:
                log.exception("load failed", extra={"model": name})
                raise Refused(Why.BROKEN, f"model {name} cannot be loaded: {first_line(error)}") from error
            finally:
                self._loading.discard(name)

    async def swap(self) -> None:
        """Open the bundle's folder anew, and serve what it holds now.

        Raises:
            Refused: it cannot be; what answered before still does.
        """
        await self.load(self.bundle.record.name)

    async def unload(self, name: str) -> None:
        """Let a model answer what it has taken on, and close it.

        Raises:
            Refused: there is none of this name.
        """
        async with self._one_at_a_time:
            self._runner(name)
            if model := self._ready.pop(name, None):
                self._reasons[name] = "unloaded"
                log.info("unloaded", extra={"model": name, "version": model.version})
                self._retire(model)

    async def stop(self) -> None:
        """Close every model."""
        for model in self._ready.values():
            self._retire(model)
        self._ready.clear()
        await asyncio.gather(*self._retiring)

    def _runner(self, name: str) -> BundledRunner:
        for one in self.bundle.record.runners:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.bundle.record.runners)
        raise Refused(Why.NOT_FOUND, f"unknown model {name[:100]!r}; there are {known}")

    async def _load(self, name: str) -> None:
        found = await asyncio.to_thread(bundles.opened, self.bundle.folder, self._trusted, trust=self.bundle.trust)
        if name == self.bundle.record.name:
            await self._swap(found)
            return
        if found.record != self.bundle.record:
            raise invalid(f"the bundle has been replaced: load {self.bundle.record.name} to serve the new one")
        if name not in self._ready:
            model = self._new(self.bundle, self._runner(name), name)
            await model.start()
            self._take_over(model, "")

    async def _swap(self, found: Bundle) -> None:
        """Load from a bundle what is loaded of the one before, and only when all of it is ready let it answer."""
        others = [one for one in found.record.runners[1:] if one.name in self._ready]
        first, reason = await self._first_that_runs(found)
        fresh = [(first, reason)]
        try:
            for one in others:
                model = self._new(found, one, one.name)
                await model.start()
                fresh.append((model, ""))
        except BaseException:
            for model, _ in fresh:
                self._retire(model)
            raise
        before, self._ready, self._reasons = self._ready, {}, {}
        old, self.bundle = self.bundle, found
        for model, reason in fresh:
            self._take_over(model, reason)
        for model in before.values():
            self._retire(model)
        log.info("swapped", extra={"before": old.record.version, "now": found.record.version})

    async def _first_that_runs(self, bundle: Bundle) -> tuple[Model, str]:
        reason = ""
        last = BackendUnavailable(f"{bundle.folder} holds no runner that was verified", "Run `make deploy`.")
        for one in bundle.record.verified:
            model = self._new(bundle, one, bundle.record.name)
            try:
                await model.start()
            except BackendUnavailable as error:
                log.error("not available here", extra={"runner": one.runner.name, "reason": error.message})
                last, reason = error, reason or f"{one.runner.name} is not available here ({error.message})"
                continue
            return model, f"{reason}; answers instead: {one.runner.name}" if reason else ""
        raise last

    def _new(self, bundle: Bundle, runs: BundledRunner, name: str) -> Model:
        return Model(bundle, runs, name, self._wanted, self._counted)

    def _take_over(self, model: Model, reason: str) -> None:
        before = self._ready.get(model.name)
        self._ready[model.name] = model
        self._reasons[model.name] = reason
        if before is not None:
            self._retire(before)
        said = {"model": model.name, "version": model.version, "runner": model.runs.runner.name}
        log.info("loaded", extra=said | {"workers": model.workers, "max_batch": model.max_batch})
        if reason:
            log.warning("stand-in", extra={"model": model.name, "reason": reason})

    def _retire(self, model: Model) -> None:
        """Let a model that no longer answers finish what it has taken on, without anybody waiting for it."""
        task = asyncio.get_running_loop().create_task(model.stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
