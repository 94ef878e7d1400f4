"""The report as text, for terminals and pull requests: `report.md`."""

from typing import Any

from pipeline import environment
from pipeline.measuring import conditions, statistics
from pipeline.report import run as runs
from pipeline.report.run import Run


def render(run: Run) -> str:
    """Return the report of a run as Markdown."""
    parity = run.parity.plain
    results = run.results.plain if run.results else None
    sections = [
        _head(run),
        _engines([sidecar.plain for sidecar in run.sidecars]),
        *([_choice(run.selection.plain)] if run.selection else []),
        _parity(parity),
        _speed(results) if results else "## Speed\n\nNothing was timed: the model failed validation.",
        _skipped(run),
        _versions(run),
    ]
    return "\n\n".join(sections) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _head(run: Run) -> str:
    dataset, history = run.dataset.plain, run.history.plain
    lines = ["# From Keras to TensorRT: what was measured", ""]
    if dataset["substitute"]:
        lines += [f"> **Not MNIST.** {dataset['substitute']}. Every figure here is of {dataset['origin']}.", ""]
    samples = dataset["samples"]
    lines += [
        f"- Data: {dataset['name']} ({dataset['origin']}): {samples['train']:,} training, {samples['validation']:,} "
        f"validation and {samples['test']:,} test images.",
        f"- Training: {history['epochs']} epochs of {history['steps_per_epoch']} steps in {history['seconds']:.1f} s "
        f"({history['images_per_s']:,.0f} images/s) on {history['device']}; test accuracy "
        f"{history['test_accuracy']:.4f} on {history['test_samples']:,} images.",
    ]
    for stage, manifest in run.manifests.items():
        lines.append(
            f"- {stage}: {manifest.created:%Y-%m-%d %H:%M} UTC, {manifest.seconds:.1f} s, on "
            f"{environment.describe_machine(manifest.machine)}."
        )
    return "\n".join(lines)


def _engines(sidecars: list[dict[str, Any]]) -> str:
    rows = []
    for sidecar in sidecars:
        census = sidecar["census"] or {"mac_share": None}
        share = ", ".join(f"{100 * part:.0f} % {kind}" for kind, part in (census["mac_share"] or {}).items())
        calibration = sidecar["calibration"]
        status = sidecar["status"] + (f": {sidecar['reason']}" if sidecar["reason"] else "")
        rows.append(
            [
                sidecar["precision"],
                share,
                ", ".join(sidecar["keep_fp32"]),
                f"{calibration['method']}, {calibration['samples']} images" if calibration else "",
                f"{sidecar['onnx']['bytes']:,}" if sidecar["onnx"] else "",
                f"{sidecar['flavour']} {sidecar['version']}" if sidecar["flavour"] else "none",
                f"{sidecar['engine']['bytes']:,}" if sidecar["engine"] else "",
                status.replace("\n", " "),
                _proof(sidecar),
            ]
        )
    header = ["precision", "multiply-accumulates in", "kept in FP32", "calibrated by", "graph, bytes", "built by"]
    return "## Engines\n\n" + _table([*header, "engine, bytes", "status", "proof of the precision"], rows)


def _proof(sidecar: dict[str, Any]) -> str:
    """Return by what the precision is known: the engine's own layers, or the graph that it was built from."""
    if sidecar["layers"] is None:
        return f"the graph; the engine was not loaded: {sidecar['runs_here_reason']}" if sidecar["onnx"] else ""
    types = ", ".join(f"{count} layers in {kind}" for kind, count in sidecar["layers"]["types"].items())
    return f"the engine: {types}"


def _choice(selection: dict[str, Any]) -> str:
    dataset = selection["dataset"]
    rows = [
        [
            row["precision"],
            "" if row["cost"] is None else f"{row['cost']:g}",
            f"{row['judgement']['accuracy_drop_pp']:+.2f}" if row["judgement"] else "",
            "yes" if row["precision"] in selection["pareto"] else "",
            row["rejected"].replace("\n", " ") or "**chosen**",
        ]
        for row in selection["candidates"]
    ]
    return "\n".join(
        [
            f"## Choice: {selection['chosen'] or 'none'}",
            "",
            f"On the {dataset['samples']:,} {dataset['split']} images of {dataset['name']}, budget "
            f"{selection['accuracy_budget_pp']:g} points. Cost: {selection['basis']}.",
            "",
            _table(["precision", "cost", "drop, points", "Pareto", "why not"], rows),
        ]
    )


def _parity(parity: dict[str, Any]) -> str:
    dataset = parity["dataset"]
    rows = [_parity_row(row) for row in (*parity["hops"], *parity["totals"]) if row["executed"]]
    largest = max((row["max_abs"] or 0.0 for row in parity["batch_invariance"]), default=0.0)
    sizes = parity["batch_invariance"][0]["batch_sizes"] if parity["batch_invariance"] else []
    return "\n".join(
        [
            f"## Accuracy: {parity['verdict']}",
            "",
            f"On the {dataset['samples']:,} {dataset['split']} images of {dataset['name']}. Budget: "
            f"{parity['accuracy_budget_pp']:g} points. Interval: {parity['interval']}.",
            "",
            _table(
                ["hop", "run by", "max |Δ|", "top-1 agreement", "accuracy", "drop, points", "McNemar p", "verdict"],
                rows,
            ),
            "",
            f"The result of an image in batches of {', '.join(map(str, sizes))} differs by at most {largest:.1e}.",
        ]
    )


def _parity_row(row: dict[str, Any]) -> list[str]:
    if row["samples"] == 0:
        return [f"{row['reference']} → {row['candidate']}", row["backend"], "", "", "", "", "", "skipped"]
    low, high = row["accuracy_drop_ci95_pp"]
    return [
        f"{row['reference']} → {row['candidate']}",
        f"{row['backend']} on {row['device']}{', emulated' if row['emulated'] else ''}",
        "not finite" if row["max_abs"] is None else f"{row['max_abs']:.1e}",
        f"{row['top1_agreement']:.4f}",
        f"{row['accuracy_candidate']:.4f}",
        f"{row['accuracy_drop_pp']:+.2f} ({low:+.2f} to {high:+.2f})",
        f"{row['mcnemar_p']:.3g}",
        f"**{row['verdict']}**: {row['reason']}",
    ]


def _speed(results: dict[str, Any]) -> str:
    settings = results["environment"]["settings"]
    ok = [cell for cell in results["cells"] if cell["status"] == "ok"]
    lines = [
        "## Speed",
        "",
        f"{environment.describe_machine(results['environment']['machine'])}. {results['environment']['threads']} "
        f"threads, one process a row, {settings['rounds']} rounds in which every row is timed in turn. p50 is the "
        "median of the rounds' medians; intervals are 95 %, by bootstrap over rounds. A percentile that the number of "
        "samples cannot support is `n/a`. The limit is the least time this machine could take, by what it was measured "
        "to do at best; "
        "the share is how near the row comes.",
    ]
    if results["interrupted"]:
        lines += ["", "**Interrupted**: what was measured until then is below."]
    for mode, meaning in (("end_to_end", "host array to host array"), ("compute", "inputs resident on the GPU")):
        rows = [
            [
                str(cell["batch"]),
                f"{cell['backend']} {cell['variant']}{' (again)' if cell['twin'] else ''}",
                cell["precision"],
                cell["device"],
                f"{cell['samples']:,}",
                _with_interval(cell["p50_us"], cell["p50_ci95_us"]),
                *(statistics.microseconds(cell[key]) for key in ("p90_us", "p95_us", "p99_us")),
                "" if cell["backend"] == "null" else f"{cell['items_per_s']:,.0f}",
                f"{cell['limit']['share']:.0%} of {cell['limit']['limit']}" if cell["limit"] else "",
            ]
            for cell in ok
            if cell["mode"] == mode
        ]
        header = [
            "batch",
            "run by",
            "precision",
            "device",
            "samples",
            "p50 µs",
            "p90",
            "p95",
            "p99",
            "images/s",
            "limit",
        ]
        if rows:
            lines += ["", f"### {mode}: {meaning}", "", _table(header, rows)]
    lines += ["", "### Noise", "", *_noise(results, ok)]
    rows = [
        [
            str(row["batch"]),
            row["mode"],
            f"{row['backend']} {row['variant']} {row['precision']} ({row['device']})",
            f"{row['over']} ({row['over_device']})",
            _ratio(row),
            row["verdict"],
        ]
        for row in results["speedups"]
    ]
    lines += [
        "",
        "### Speed-up over the original model",
        "",
        "Median of the rounds' ratios with its interval, the strongest baseline first.",
        "",
        _table(["batch", "mode", "of", "over", "ratio", ""], rows),
    ]
    return "\n".join(lines)


def _noise(results: dict[str, Any], ok: list[dict[str, Any]]) -> list[str]:
    """Say what lies beneath the numbers: the noise between equals, the harness's own cost, a machine that changed."""
    rows = [
        [str(row["batch"]), row["mode"], row["cell"], _ratio(row), f"{row['floor']:.1%}"]
        for row in results["noise_floor"]
    ]
    header = ["batch", "mode", "against itself, in two processes", "ratio", "no difference is told below"]
    lines = [_table(header, rows)] if rows else ["No cell was repeated."]
    costs = [cell["p50_us"] for cell in ok if cell["backend"] == "null" and cell["p50_us"] is not None]
    if costs:
        lines += ["", f"The harness itself, around a call that does nothing: {max(costs):.2f} µs."]
    whole = results["environment"]["conditions"]
    remarks = conditions.changes(whole["start"], whole["end"])
    for cell in ok:
        if "end" in cell["conditions"]:
            remarks += conditions.gpu_changes(cell["conditions"]["start"], cell["conditions"]["end"])
    return lines + [f"\n**{remark[0].upper()}{remark[1:]}.**" for remark in dict.fromkeys(remarks)]


def _ratio(row: dict[str, Any]) -> str:
    low, high = row["ratio_ci95"]
    return f"{row['ratio']:.2f}× ({low:.2f} to {high:.2f})"


def _with_interval(value: float | None, ends: list[float] | None) -> str:
    if value is None or ends is None:
        return statistics.microseconds(value)
    return f"{statistics.microseconds(value)} ({' to '.join(map(statistics.microseconds, ends))})"


def _skipped(run: Run) -> str:
    rows = [[row.stage, ", ".join(row.what), row.why] for row in runs.not_run(run)]
    return "## What did not run, and why\n\n" + (_table(["stage", "what", "why"], rows) if rows else "Everything ran.")


def _versions(run: Run) -> str:
    return "## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in run.last.versions.items())
