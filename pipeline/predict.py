"""What the model says of files, by the fastest runner that passed validation, or by the one asked for."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.store import Published, Store
from pipeline.config import Config
from pipeline.data import Split, samples
from pipeline.judging.choosing import class_names, task_of, unlabelled
from pipeline.judging.own import Own
from pipeline.runners import inference, serving
from pipeline.runners.serving import Wanted
from pipeline.tasks import Answer, Task
from pipeline.tensors import Outputs


def predict(files: Sequence[Path], backend: str, precision: str, config: Config) -> list[str]:
    """Return a line about which runner answers, and one for each file, which holds one sample: what it shows.

    Where `backend` and `precision` are auto, the benchmark's recommendation is followed.

    Raises:
        PipelineError: an unknown name, an unreadable file, no artifact, or nothing that runs on this machine.
    """
    wanted = Wanted(backend, precision)
    serving.check(wanted)
    published = Store(config.artifacts).published()
    record = published.read(DatasetRecord)
    inputs = published.read(ModelRecord).signature.inputs
    white = partial(samples.white, options=config.data)
    feeds = [samples.read(path, inputs, white) for path in files]
    offered = serving.candidates(
        published, wanted, modules=config.model.modules, trust=config.model.trust, threads=config.benchmark.threads
    )
    with serving.opened(offered) as (served, session):
        lines = [f"{served.runner.record.name} on {session.device}: {served.why}; {served.verdict}"]
        tasks: Mapping[str, Task] = {}
        for path, feed in zip(files, feeds, strict=True):
            # One at a time: a static batch or a small profile takes them too, and no sample can depend on another.
            found = inference.infer(session, Split(feed), 1, inference.limits(served.runner.record))
            tasks = tasks or _tasks(published, found)
            said = {name: _answer(name, task, found, record) for name, task in tasks.items()}
            lines.append(f"{path}: {'; '.join(_line(name, one, len(said)) for name, one in said.items())}")
    return lines


def _tasks(published: Published, found: Outputs) -> Mapping[str, Task]:
    """Return the task of each output, as validation chose it; where it has not run, by what the output looks like."""
    parity = published.read_if_there(ParityReport)
    return {one.output: task_of(one) for one in parity.outputs} if parity and parity.outputs else unlabelled(found)


def _answer(name: str, task: Task, found: Outputs, record: DatasetRecord) -> Answer:
    alone = {output: rows[0] for output, rows in found.items()}
    return task.reads(alone if isinstance(task, Own) else alone[name], class_names(record, name))  # type: ignore[arg-type]


def _line(name: str, answer: Answer, outputs: int) -> str:
    score = "" if answer.score is None else f" ({answer.score:.4f})"
    return f"{f'{name}: ' if outputs > 1 else ''}{answer.text}{score}"
