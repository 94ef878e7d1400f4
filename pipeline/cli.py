"""The commands. Errors become exit codes here; nothing heavy is imported before a command needs it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import __version__
from pipeline.errors import PipelineError
from pipeline.stages import LOADGEN, LOCALISE, STAGES, Stage

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.config import Config

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
Force = Annotated[bool, typer.Option("--force", help="Run even where the artifacts are up to date.")]


def _load(config: Path | None, assignments: list[str] | None) -> "Config":
    from pipeline.config import load

    return load(config, assignments or ())


def _run(stage: Stage, config: Path | None, assignments: list[str] | None, force: bool) -> None:
    from pipeline.workflow import run

    run.run(stage, _load(config, assignments), _console(), force=force)


def _console() -> "Console":
    from rich.console import Console

    # Where nobody watches (a log, CI) there is no width to find out: wide enough for the tables.
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
        Path | None, typer.Option(metavar="OLD.json", help="Tell what became faster or slower than in OLD.json.")
    ] = None,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="With --compare: exit with 7 where a cell became slower.")
    ] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    force: Force = False,
) -> None:
    if scenario is None and accuracy:
        raise typer.BadParameter("goes with --scenario", param_hint="--accuracy")
    if compare is None and fail_on_regression:
        raise typer.BadParameter("goes with --compare", param_hint="--fail-on-regression")
    if scenario is not None:
        if compare is not None:
            raise typer.BadParameter("compares the cells of a plain run; leave --scenario out", param_hint="--compare")
        mode = "accuracy" if accuracy else "performance"
        chosen = [*(assignments or ()), f"loadgen.scenario={scenario}", f"loadgen.mode={mode}"]
        _run(LOADGEN, config, chosen, force)
        return
    old = None
    if compare is not None:
        from pipeline.measuring import comparison

        old = comparison.read(compare)  # before the run: it may be this run's own predecessor, about to be replaced
    _run(STAGES["benchmark"], config, assignments, force)
    if old is not None:
        root = _load(config, assignments).artifacts
        comparison.show(old, comparison.read(root / "benchmark/results.json"), _console(), fail=fail_on_regression)


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
    chosen = list(assignments or ())
    if compare is not None:
        chosen.append(f"report.compare={json.dumps([str(run) for run in (compare, *(others or ()))])}")
    _run(STAGES["report"], config, chosen, force)
    if open_page:
        page = (_load(config, chosen).artifacts / "report/index.html").resolve()
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            typer.echo(f"no browser could be started here; the page is {page}", err=True)


_COMMANDS: dict[str, Any] = {"benchmark": benchmark, "report": report}
for _stage in STAGES.values():
    app.command(_stage.name, help=_stage.help)(_COMMANDS.get(_stage.name) or _stage_command(_stage.name))


@app.command(LOCALISE.name, help=LOCALISE.help)
def localise(
    precision: Annotated[str | None, typer.Option(help="The precision to look into; localise.precision.")] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    force: Force = False,
) -> None:
    _run(LOCALISE, config, [*(assignments or ()), *([f"localise.precision={precision}"] if precision else ())], force)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="PNG, JPEG or .npy files.")],
    backend: Annotated[str, typer.Option(help="auto, or a backend's name.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Precision of the typed graph or engine; auto: the chosen one.")
    ] = "fp32",
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Tell what images show, by the exported model or an engine."""
    from pipeline import predict

    for line in predict.predict(images, backend, precision, _load(config, assignments)):
        typer.echo(line)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Tell what this machine has, and what each stage will therefore use."""
    from pipeline import doctor

    found = doctor.examine(_load(config, assignments))
    typer.echo(doctor.to_json(found) if as_json else doctor.to_text(found))


@app.command("config")
def show_config(config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print the configuration as TOML, every key with its meaning."""
    from pipeline.config import to_toml

    typer.echo(to_toml(_load(config, assignments)), nl=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: exit code 0, or the error's (pipeline.errors); 130 after Ctrl-C."""
    sys.path.insert(0, "")  # model.source and data.source name modules of the working directory
    try:
        app()
    except PipelineError as error:
        typer.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted; what was published before is unharmed", err=True)
        sys.exit(130)
