"""The commands. Errors become exit codes here; nothing heavy is imported before a command needs it."""

import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import __version__, exhaustion, hosts, interruption, temporary, terminal
from pipeline.errors import ConfigError, Interrupted, PipelineError
from pipeline.stages import ON_DEMAND, STAGES
from pipeline.workflow.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config import Config
    from pipeline.console import Console

app = typer.Typer(
    help="From a Keras model to a verified, timed TensorRT engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file; `config` prints one with every key.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key, as train.epochs=3. Repeatable.")
]
BundleFolder = Annotated[
    Path | None, typer.Argument(metavar="[BUNDLE]", help="A bundle, or a folder that holds it; unset: the artifacts.")
]
TYPERS_INTERRUPT = 130
"""The exit code by which typer ends on a KeyboardInterrupt."""

Force = Annotated[bool, typer.Option("--force", help="Run even if the artifacts are up to date.")]


def _load(
    config: Path | None, assignments: list[str] | None, options: "Mapping[str, object] | None" = None
) -> "Config":
    """Return the configuration; `options` are what a command's own options set, by key, as `report.compare`."""
    from pipeline.config.loading import load

    return load(config, assignments or (), options or {})


def _run(
    stage: Stage,
    config: Path | None,
    assignments: list[str] | None,
    force: bool,
    options: "Mapping[str, object] | None" = None,
) -> "Config":
    from pipeline.workflow import run

    loaded = _load(config, assignments, options)
    with interruption.deferred():
        temporary.keep_apart()
    run.run(stage, loaded, _console(), force=force)
    return loaded


def _console() -> "Console":
    from pipeline.console import Console

    # A log or CI has no width to ask for: wide enough for the tables.
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def _stage_command(name: str) -> Any:
    def command(config: ConfigFile = None, assignments: Assignments = None, force: Force = False) -> None:
        _run(STAGES[name], config, assignments, force)

    return command


def benchmark(
    scenario: Annotated[
        str | None,
        typer.Option(help="Run MLPerf LoadGen instead: singlestream, multistream, server or offline."),
    ] = None,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="With --scenario: LoadGen's accuracy mode.")] = False,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Show what became faster or slower than in OLD.json.")
    ] = None,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="With --compare: exit with code 7 if a cell became slower.")
    ] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    force: Force = False,
) -> None:
    if scenario is None and accuracy:
        raise typer.BadParameter("needs --scenario", param_hint="--accuracy")
    if compare is None and fail_on_regression:
        raise typer.BadParameter("needs --compare", param_hint="--fail-on-regression")
    if scenario is not None:
        if compare is not None:
            raise typer.BadParameter("compares plain benchmark runs; leave out --scenario", param_hint="--compare")
        mode = "accuracy" if accuracy else "performance"
        chosen = {"loadgen.scenario": scenario, "loadgen.mode": mode}
        _run(ON_DEMAND["loadgen"], config, assignments, force, chosen)
        return
    from pipeline import compare as comparing

    # Before the run: it may be this run's own predecessor, about to be replaced.
    old = comparing.read(compare) if compare is not None else None
    loaded = _run(STAGES["benchmark"], config, assignments, force)
    if old is not None:
        new = comparing.read(loaded.artifacts / "benchmark/results.json")
        comparing.show(old, new, _console(), fail=fail_on_regression)


def report(
    others: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]…", help="With --compare: more runs.")] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Show other runs beside this one: folders that hold their artifacts."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    force: Force = False,
) -> None:
    if others and compare is None:
        raise typer.BadParameter(f"{others[0]}: name other runs after --compare", param_hint="RUN")
    chosen = {} if compare is None else {"report.compare": [str(run) for run in (compare, *(others or ()))]}
    loaded = _run(STAGES["report"], config, assignments, force, chosen)
    if open_page:
        page = (loaded.artifacts / "report/index.html").resolve()
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            terminal.complain(f"no browser could be started; the page is {page}")


_COMMANDS: dict[str, Any] = {"benchmark": benchmark, "report": report}
for _stage in STAGES.values():
    app.command(_stage.name, help=_stage.help)(_COMMANDS.get(_stage.name) or _stage_command(_stage.name))


@app.command("all", help="Run every stage, from the model to the report.")
def every_stage(config: ConfigFile = None, assignments: Assignments = None, force: Force = False) -> None:
    for stage in STAGES.values():
        _run(stage, config, assignments, force)


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if need be.")],
    model: Annotated[
        str | None,
        typer.Option(help="A .keras, .h5 or .onnx file, a SavedModel folder, or package.module:function."),
    ] = None,
    data: Annotated[str, typer.Option(help="Samples: an .npz file, a folder of images, …")] = "random",
    assignments: Assignments = None,
) -> None:
    """Look at a model and write a small project for it: pipeline.toml and Makefile, which run as they are."""
    from pipeline import project

    chosen = {} if model is None else {"model.source": model}
    terminal.answer("\n".join(project.write(folder, _load(None, assignments, chosen).model, data)))


@app.command("localise", help=ON_DEMAND["localise"].help)
def localise(
    precision: Annotated[str | None, typer.Option(help="The precision to examine (localise.precision).")] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    force: Force = False,
) -> None:
    _run(ON_DEMAND["localise"], config, assignments, force, {"localise.precision": precision} if precision else {})


@app.command("deploy", help=ON_DEMAND["deploy"].help)
def deploy(config: ConfigFile = None, assignments: Assignments = None, force: Force = False) -> None:
    _run(ON_DEMAND["deploy"], config, assignments, force)


@app.command()
def verify(bundle: BundleFolder = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Check every byte of a bundle, and its signature where deploy.trusted_keys is set."""
    from pipeline.deployment import verify

    loaded = _load(config, assignments)
    terminal.answer("\n".join(verify.verify(bundle or loaded.artifacts, loaded.deploy)))


@app.command()
def serve(bundle: BundleFolder = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Serve a bundle by the Open Inference Protocol (REST and gRPC), with a page to try it on."""
    from pipeline import serving

    loaded = _load(config, assignments)
    serving.serve(bundle or loaded.artifacts, loaded)


@app.command()
def score(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or a folder that holds it.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Parquet files, a folder of images, or .npy.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A folder for Parquet files with the answers.")],
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Score on a Ray cluster: its address, or local.")
    ] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Score many samples with a bundle; started again after a kill, it goes on."""
    from pipeline import scoring

    scoring.score(bundle, source, target, _load(config, assignments), ray=ray)


@app.command()
def predict(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="A sample each: PNG, JPEG, .npy; .npz for several inputs.")
    ],
    backend: Annotated[str, typer.Option(help="Name of a backend; auto: the benchmark's recommendation.")] = "auto",
    precision: Annotated[str, typer.Option(help="Name of a precision; auto: the benchmark's recommendation.")] = "auto",
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Run the model on files with the fastest runner that passed validation."""
    from pipeline import predict

    terminal.answer("\n".join(predict.predict(files, backend, precision, _load(config, assignments))))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    artifacts: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Check a run instead: was what was timed also judged?"),
    ] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Show what this machine has and what each stage will use; or check a run's folder."""
    if artifacts is not None:
        from pipeline import checkup

        terminal.answer("\n".join(checkup.check(artifacts)))
        return
    from pipeline import doctor as diagnosis

    found = diagnosis.examine(_load(config, assignments))
    terminal.answer(diagnosis.to_json(found) if as_json else diagnosis.to_text(found))


@app.command("config")
def show_config(config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print the configuration as TOML, every key with its meaning."""
    from pipeline.config.writing import to_toml

    terminal.answer(to_toml(_load(config, assignments)).removesuffix("\n"))


def _print_version(wanted: bool) -> None:
    if wanted:
        terminal.answer(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def _temporary_folder() -> None:
    """Raise ConfigError where no folder takes temporary files, which libraries say in words of their own, or crash."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ConfigError(f"temporary files cannot be written: {error.strerror}", "Set TMPDIR to a folder.") from error


def main() -> None:
    """Run the command line: exit code 0, the error's (pipeline.errors), or a signal's (pipeline.interruption)."""
    terminal.prepare()
    sys.path.insert(0, "")  # model.source and data.source name modules of the working directory
    interruption.begin()
    error = _ended()
    code = _exit_code(error)
    interruption.done(code)
    if error is not None:
        _say(error)
    hosts.end(code)


def _ended() -> BaseException | None:
    """Run the command; return what ended it, or None where all went well."""
    try:
        exhaustion.prepare()
        _temporary_folder()
        app()
    except SystemExit as end:  # typer's, of all that it has dealt with; of Ctrl-C it says nothing
        return KeyboardInterrupt() if end.code == TYPERS_INTERRUPT else end if end.code else None
    except (PipelineError, KeyboardInterrupt) as error:
        return error
    except Exception as error:
        if limit := exhaustion.told(error):
            return limit
        if hosts.current() is None and not interruption.received():
            raise
        return error
    return None


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, PipelineError) and not isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return interruption.exit_code()
    return 0 if error is None else interruption.exit_code() if interruption.received() else 1


def _say(error: BaseException) -> None:
    if isinstance(error, PipelineError):
        terminal.complain(f"error: {error.message}", error.hint)
    elif isinstance(error, KeyboardInterrupt) or interruption.received():  # what a signal broke is no bug
        terminal.complain(interruption.SAID)
    elif not isinstance(error, SystemExit):
        traceback.print_exception(error)
