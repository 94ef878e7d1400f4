"""An engine's session: batches in slots of pinned memory, over one stream or several; see the package.

No engine has been run on a GPU yet. For the names of variables see `build`.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.artifacts.runner import Step
from pipeline.backends import Bound, Closable, step_of
from pipeline.backends.tensorrt.execution import Lane, Loaded, ShapeContext, Slot, free
from pipeline.backends.tensorrt.feeds import Accepted
from pipeline.errors import BatchOutsideProfile
from pipeline.tensors import FIRST_GPU, Feed, Outputs

SHAPES = 8
"""For how many shapes memory and graphs are kept; the one unused for longest goes first."""

STREAMS = 2
"""Over how many streams chunks go where no step says it: one computes while the other copies."""

BUFFERS = 2
"""Batches in pinned memory for each stream: one on the device, one that the host fills or empties."""


@dataclass
class _Prepared:
    """What is kept for one shape: its contexts by lane, and its slots by lane and turn."""

    contexts: dict[int, ShapeContext] = field(default_factory=dict)
    slots: dict[tuple[int, int], Slot] = field(default_factory=dict)


class EngineSession(Closable):
    """An engine on the first GPU. Not for use from several threads.

    Batches that a step applies to go in chunks of its size over its streams, others whole up to the
    profiles' largest and then in chunks of that; each in the narrowest profile that takes it. `settings` tell how the
    last `run` went, `profile` (smallest, best, largest) among it, and `bound_cuda_graph` and `bound_profile` how the
    last `bind` did.
    """

    def __init__(self, loaded: Loaded, device: Any, steps: Sequence[Step] = ()) -> None:
        self.flavour = loaded.flavour
        self.device = str(FIRST_GPU)
        self.inputs, self.outputs = loaded.inputs, loaded.outputs
        self.settings: dict[str, object] = {
            "pinned": True,
            "transfers": "each run copies in and out, on the stream of its inference",
            "wait": "spins or yields as the driver chooses",
        }
        self._loaded, self._device = loaded, device
        self._accepted = Accepted(loaded.engine, self.inputs)
        self._steps = tuple(steps)
        for step in self._steps:
            smallest, largest = self._accepted.smallest, self._accepted.largest
            if not smallest <= (step.chunk or largest) <= largest:
                raise BatchOutsideProfile(f"{step!r} does not fit an engine for batches of {smallest} to {largest}")
        self._lanes = [Lane(loaded.engine)]
        self._prepared: OrderedDict[tuple[tuple[int, ...], ...], _Prepared] = OrderedDict()
        self._recent: Slot | None = None
        self._bound: list[tuple[Slot, ShapeContext]] = []
        self._whole: Outputs = {}

    def run(self, feed: Feed) -> Outputs:
        """Infer from host memory to host memory; the arrays returned are the session's until its next run.

        They are pinned memory, or for a batch that went in chunks, ordinary memory allocated once.

        Raises:
            BackendUnavailable: TensorRT could not execute the engine, with its words.
            InputError: the feed lacks an input, or one has a type, a shape or a size of a dynamic axis that the engine
                does not take.
            BatchOutsideProfile: the batch is smaller than every profile's, or is not the engine's fixed one.
        """
        slot = self._recent
        if slot is None or not slot.fill(feed):
            return self._run_another(feed)
        slot.launch()
        slot.sync()
        return slot.outputs()

    def bind(self, feed: Feed) -> Bound:
        """Copy the inputs to memory of their own on the device, where they stay until the session closes.

        Raises:
            BackendUnavailable: as `run`.
            InputError: as `run`.
            BatchOutsideProfile: as `run`, and where the batch is larger than every profile's.
        """
        self.check_open()
        profile = self._accepted.profile(self._accepted.batch_of(feed))
        lane = self._lanes[0]
        on = ShapeContext(self._loaded, lane, profile, {name: array.shape for name, array in feed.items()})
        slot = Slot(on, copies=False)
        self._bound.append((slot, on))
        self.settings["bound_cuda_graph"] = not slot.reason
        self.settings["bound_profile"] = list(self._accepted.profiles[profile])
        slot.fill(feed)
        slot.upload()
        slot.sync()
        start, wait = slot.launch, slot.sync

        def launch() -> None:
            if not self._open:
                self.check_open()
            start()

        return Bound(launch, wait, lane.handle)

    def close(self) -> None:
        """Wait for the device, then free graphs, contexts, memory, streams, engine and runtime, in that order."""
        if not self._open:
            return
        super().close()
        try:
            self._device.sync()
        finally:
            self._recent = None
            while self._prepared:
                self._evict()
            while self._bound:
                slot, on = self._bound.pop()
                free([slot], [on])
            for lane in self._lanes:
                lane.close()
            self._loaded.runtime_config = None
            self._loaded.engine = None
            self._loaded.runtime = None

    def _run_another(self, feed: Feed) -> Outputs:
        """Run what does not fit the last run's memory."""
        self.check_open()
        batch = self._accepted.batch_of(feed)
        step = step_of(self._steps, batch)
        chunk = (step and step.chunk) or self._accepted.largest
        if batch > chunk:
            return self._run_chunks(feed, batch, chunk, step.streams if step else STREAMS)
        self._recent = slot = self._slot({name: array.shape for name, array in feed.items()}, 0, 0)
        self._describe([slot], batch)
        slot.fill(feed)
        slot.launch()
        slot.sync()
        return slot.outputs()

    def _run_chunks(self, feed: Feed, batch: int, chunk: int, streams: int) -> Outputs:
        """Run a large batch, a chunk at a time on each stream and one waiting behind it."""
        self._recent = None
        used: dict[int, Slot] = {}
        under_way: deque[tuple[Slot, int, int]] = deque()  # slot, first sample, samples
        try:
            for index, start in enumerate(range(0, batch, chunk)):
                count = min(chunk, batch - start)
                part = {
                    name: array[start : start + count] if name in self._accepted.batched else array
                    for name, array in feed.items()
                }
                size = max(count, self._accepted.smallest)  # a last chunk below the profiles is filled up
                shapes = {
                    name: (size, *array.shape[1:]) if name in self._accepted.batched else array.shape
                    for name, array in part.items()
                }
                slot = self._slot(shapes, index % streams, index // streams % BUFFERS)
                used[id(slot)] = slot
                if index == 0:
                    whole = self._answers(slot, batch, size)
                if len(under_way) == streams * BUFFERS:
                    _collect(*under_way.popleft(), whole)
                slot.fill_part(part, self._accepted.batched)
                slot.launch_marked()
                under_way.append((slot, start, count))
            while under_way:
                _collect(*under_way.popleft(), whole)
        except BaseException:
            self._device.sync()  # nothing may be under way when the memory is used again
            raise
        self._describe(list(used.values()), chunk)
        return whole

    def _slot(self, shapes: dict[str, tuple[int, ...]], lane: int, turn: int) -> Slot:
        """Return the slot for these input shapes, made on first use; the shape unused for longest makes room."""
        key = tuple(shapes[spec.name] for spec in self.inputs)
        prepared = self._prepared.get(key)
        if prepared is None:
            while len(self._prepared) >= SHAPES:
                self._evict()
            prepared = self._prepared[key] = _Prepared()
        self._prepared.move_to_end(key)
        if (lane, turn) not in prepared.slots:
            while lane >= len(self._lanes):
                self._lanes.append(Lane(self._loaded.engine))
            if lane not in prepared.contexts:
                profile = self._accepted.profile_of(shapes)
                prepared.contexts[lane] = ShapeContext(self._loaded, self._lanes[lane], profile, shapes)
            prepared.slots[lane, turn] = Slot(prepared.contexts[lane], copies=True)
        return prepared.slots[lane, turn]

    def _evict(self) -> None:
        """Free the shape unused for longest."""
        _, prepared = self._prepared.popitem(last=False)
        free(prepared.slots.values(), prepared.contexts.values())

    def _answers(self, slot: Slot, batch: int, size: int) -> Outputs:
        """Return arrays for all chunks' outputs: [batch, …], allocated anew for a larger batch or another shape."""
        for name, view in slot.outputs().items():
            if view.shape[:1] != (size,):
                raise BatchOutsideProfile(
                    f"output {name} of shape {view.shape} does not begin with the batch: it cannot be run in chunks",
                    f"Choose a batch of at most {self._accepted.largest}.",
                )
            kept = self._whole.get(name)
            if kept is None or len(kept) < batch or kept.shape[1:] != view.shape[1:]:
                self._whole[name] = np.empty((batch, *view.shape[1:]), view.dtype)
        return {name: array[:batch] for name, array in self._whole.items()}

    def _describe(self, slots: list[Slot], chunk: int) -> None:
        """Say in `settings` how these slots run."""
        reasons = [slot.reason for slot in slots if slot.reason]
        self.settings.pop("cuda_graph_reason", None)
        if reasons:
            self.settings["cuda_graph_reason"] = reasons[0]
        lanes = {slot.lane for slot in slots}
        profile = list(self._accepted.profiles[self._accepted.profile(chunk)])
        self.settings |= {"cuda_graph": not reasons, "streams": len(lanes), "chunk": chunk, "profile": profile}


def _collect(slot: Slot, start: int, count: int, whole: Outputs) -> None:
    """Wait for a chunk and copy its outputs to where they belong."""
    slot.wait()
    for name, view in slot.outputs().items():
        whole[name][start : start + count] = view[:count]
