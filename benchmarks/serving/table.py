"""What was seen of servers under load, as Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.serving.closed_loop import Loaded
from benchmarks.serving.faults import Fault

OURS = "ours"


def loads(found: Sequence[Loaded]) -> str:
    """Return a table with a row for each client program and number of clients: medians over the rounds."""
    servers = list(dict.fromkeys(one.server for one in found))
    head = ["client", "clients"]
    for server in servers:
        head += [f"{server}: requests/s", "p50 ms", "p99 ms", "batch"]
    head += [f"ours over {server}: requests/s" for server in servers if server != OURS]
    head += ["errors, wrong"]
    rows = []
    for client, clients in dict.fromkeys((one.client, one.clients) for one in found):
        cell = {
            server: [one for one in found if (one.client, one.clients, one.server) == (client, clients, server)]
            for server in servers
        }
        row = [client, str(clients or "")]
        for server in servers:
            some = cell[server]
            row += [
                f"{median(one.per_s for one in some):,.0f}" if some else "",
                _ms(one.p50_ms for one in some),
                _ms(one.p99_ms for one in some),
                _number((one.batch for one in some), ".1f"),
            ]
        for server in servers:
            if server != OURS:
                row.append(_ratio(cell[OURS], cell[server]))
        every = [one for some in cell.values() for one in some]
        row.append(f"{sum(one.errors for one in every)}, {sum(one.wrong or 0 for one in every)}")
        rows.append(row)
    return _table(head, rows)


def faults(found: Iterable[Fault]) -> str:
    """Return a table with a row for each fault."""
    head = ["what was done", "the clients that behave", "memory, MB", "", "no wrong answer, none lost"]
    rows = [
        [
            one.name,
            str(one.seen),
            f"{one.before / 1e6:,.0f} → {one.after / 1e6:,.0f}" if one.after else f"{one.before / 1e6:,.0f}",
            one.remark,
            "yes" if one.held else "**NO**",
        ]
        for one in found
    ]
    return _table(head, rows)


def _ratio(ours: Sequence[Loaded], other: Sequence[Loaded]) -> str:
    """Return the median of the rounds' ratios, with the least and the most."""
    ratios = [one.per_s / peer.per_s for one, peer in zip(ours, other, strict=False) if peer.per_s]
    return f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""


def _ms(values: Iterable[float | None]) -> str:
    return _number(values, ".2f")


def _number(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):{form}}" if known else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
