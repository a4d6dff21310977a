"""
``llm-master usage``: what was spent, by whatever the ledger knows of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_master.cli.figures import columns, flat, harmless, monies, reader, rows_of_text, seconds, size, styled, width
from llm_master.cli.terminal import print_json
from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from llm_master.ledger.reading import Reader, UsageReport, UsageRow

__all__ = ["usage"]

# Columns of a bar, and those that a long name keeps; figures beside the bar without which it is left out.
_BAR, _NAME, _ALWAYS = 12, 16, 3

Many = list[str]


def usage(
    *,
    by: Annotated[
        Many | None,
        typer.Option("--by", metavar="NAME", help="model, asked, provider, key, tag, day, deployment, kind; several."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="7d, 12h, 2026-11-01, 2026-11-01T12:30: from then on.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="The same: before then.")] = None,
    model: Annotated[
        Many | None, typer.Option("--model", metavar="NAME", help="Only these; * and ? may stand.")
    ] = None,
    provider: Annotated[Many | None, typer.Option("--provider", metavar="NAME", help="Only these.")] = None,
    key: Annotated[Many | None, typer.Option("--key", metavar="ID", help="Only these public ids of keys.")] = None,
    deployment: Annotated[Many | None, typer.Option("--deployment", metavar="NAME", help="Only these.")] = None,
    kind: Annotated[Many | None, typer.Option("--kind", metavar="KIND", help="Only these: chat, embed ...")] = None,
    tag: Annotated[Many | None, typer.Option("--tag", metavar="TAG", help="Only calls with one of these.")] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="ORDER", help="cost, calls, tokens or latency (p95).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Show the first N groups.")] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="utc, local or Europe/Berlin: whose days.")
    ] = "utc",
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", metavar="PATH", help="A file, or postgresql://...; else LLM_MASTER_LEDGER."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv_output: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """
    Show what was spent: calls, tokens, cost and latency.

    Sums are exact. A cost with a + lacks the calls whose price is not known. Percentiles are by nearest rank, over all
    calls that have the figure. A call with several tags counts for each of them, and in the total once.
    """
    if json_output and csv_output:
        raise InvalidRequestError("--json and --csv exclude each other; give one of them")
    where = reader(ledger, timezone)
    names = [name for each in by or () for name in each.replace(",", " ").split()]
    chosen = where.selection(
        since=since,
        until=until,
        model=model or (),
        provider=provider or (),
        key=key or (),
        deployment=deployment or (),
        kind=kind or (),
        tag=tag or (),
    )
    found = where.report(names, chosen, sort=sort)
    rows = found.rows[:limit] if limit else found.rows
    if json_output:
        _print_json(found, rows, names)
    elif csv_output:
        _print_csv(rows, names)
    elif sys.stdout.isatty():
        _print_report(where, found, rows, names)
    else:
        _print_lines(found, rows, names)


def _print_json(found: UsageReport, rows: list[UsageRow], names: list[str]) -> None:
    print_json(
        {
            "by": names,
            "first_ts": found.first,
            "last_ts": found.last,
            "total": flat(found.total),
            "rows": [flat(row) for row in rows] if names else [],
        }
    )


def _print_csv(rows: list[UsageRow], names: list[str]) -> None:
    import csv

    made = [flat(row) for row in rows]
    heading = list(made[0]) if made else [*names, "calls"]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(heading)
    for row in made:
        out.writerow("" if value is None else _cell(value) if name in names else value for name, value in row.items())


def _cell(value: object) -> str:
    # A spreadsheet takes a text that begins so for a formula.
    text = harmless(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _print_lines(found: UsageReport, rows: list[UsageRow], names: list[str]) -> None:
    """For a pipe: name and value of the total, or a line with tabs for each group."""
    if not names:
        for name, value in flat(found.total).items():
            sys.stdout.write(f"{name}\t{'' if value is None else value}\n")
        return
    for row in rows:
        values: list[Any] = [row.group[name] or "" for name in names]
        ranks = row.latency
        values += [row.calls, row.errors, row.usage.input_tokens, row.usage.output_tokens]
        values += ["unknown" if row.cost is None else f"{row.cost:f}", row.unpriced + row.incomplete]
        values += [ranks.p50, ranks.p95, ranks.p99] if ranks else ["", "", ""]
        first = row.first_token
        values += [row.fallbacks, *([first.p50, first.p95, first.p99] if first else ["", "", ""])]
        sys.stdout.write("\t".join(harmless(str(value)) for value in values) + "\n")


def _print_report(where: Reader, found: UsageReport, rows: list[UsageRow], names: list[str]) -> None:
    lines = _total(where, found)
    if names and rows:
        for table in _tables(rows, names, width()):
            lines += ["", *table]
        if len(rows) < len(found.rows):
            lines += ["", f"{len(found.rows) - len(rows):,} more groups; a larger --limit shows more of them"]
    sys.stdout.write("\n".join(lines) + "\n")


def _total(where: Reader, found: UsageReport) -> list[str]:
    total = found.total
    if found.first is None or found.last is None:
        return ["no calls"]
    from llm_master.cli.figures import when

    tokens = total.usage
    lines = [
        styled(f"{when(where, found.first)} to {when(where, found.last)} {where.zone.name}", "1"),
        f"calls        {total.calls:,}",
        f"  failed     {total.errors:,} ({total.error_rate:.2%}), cancelled {total.cancelled:,}",
        f"  fallback   {total.fallbacks:,} ({total.fallback_rate:.2%}), cached {total.cached:,}",
        f"requests     {total.requests:,}",
        f"input        {tokens.input_tokens:,} tokens",
        f"output       {tokens.output_tokens:,} tokens",
    ]
    parts = [name for name in tokens.__struct_fields__ if name not in ("input_tokens", "output_tokens", "estimated")]
    lines += [f"  {name.replace('_', ' '):<21} {getattr(tokens, name):,}" for name in parts if getattr(tokens, name)]
    [cost] = monies([total.cost], [""])
    lines.append(f"cost         {cost}")
    if total.unpriced:
        lines.append(f"  + {total.unpriced:,} calls without a known cost")
    if total.incomplete:
        lines.append(f"  + parts of {total.incomplete:,} calls without a known price")
    for name, ranks in (("latency", total.latency), ("first token", total.first_token)):
        if ranks:
            lines.append(
                f"{name:<12} p50 {seconds(ranks.p50)} s, p95 {seconds(ranks.p95)} s, p99 {seconds(ranks.p99)} s"
            )
    return lines


def _costs(rows: list[UsageRow]) -> list[str]:
    partly = ["+" if row.cost is not None and (row.unpriced or row.incomplete) else "" for row in rows]
    return monies([row.cost for row in rows], partly)


def _ranks(which: str, rank: str) -> Callable[[UsageRow], str]:
    def shown(row: UsageRow) -> str:
        ranks = getattr(row, which)
        return seconds(getattr(ranks, rank) if ranks else None)

    return shown


# The columns of a group after its name and its cost. Those that find no room follow in a table of their own.
_COLUMNS: tuple[tuple[str, Callable[[UsageRow], str]], ...] = (
    ("calls", lambda row: f"{row.calls:,}"),
    ("failed", lambda row: f"{row.error_rate:.1%}"),
    ("p50 s", _ranks("latency", "p50")),
    ("p95 s", _ranks("latency", "p95")),
    ("p99 s", _ranks("latency", "p99")),
    ("input", lambda row: f"{row.usage.input_tokens:,}"),
    ("output", lambda row: f"{row.usage.output_tokens:,}"),
    ("fallback", lambda row: f"{row.fallback_rate:.1%}"),
    ("1st p50", _ranks("first_token", "p50")),
    ("1st p95", _ranks("first_token", "p95")),
    ("1st p99", _ranks("first_token", "p99")),
)


def _tables(rows: list[UsageRow], names: list[str], room: int) -> list[list[str]]:
    """Tables of all columns, each as wide as the terminal at most, the first with bars when they fit."""
    labels = [harmless(" / ".join(row.group[name] or "(none)" for name in names)) for row in rows]
    label = [" / ".join(names), *labels]
    named = min(max(map(size, label)), max(_NAME, room // 3))
    waiting = [["cost", *_costs(rows)], *([heading, *map(show, rows)] for heading, show in _COLUMNS)]
    tables: list[list[str]] = []
    while waiting:
        bar = _BAR + 2 if not tables else 0
        taken = _taken(waiting, room - named, bar)
        if not tables and taken < _ALWAYS:
            bar, taken = 0, _taken(waiting, room - named, 0)
        cells, waiting = [label, *waiting[:taken]], waiting[taken:]
        table = list(zip(*cells, strict=True))
        lines = rows_of_text(table, columns(table, named))
        if bar:
            heading, bars = _bars(rows, _BAR)
            lines = [f"{line}  {each}" for line, each in zip(lines, [heading, *bars], strict=True)]
        tables.append([styled(lines[0].rstrip(), "1"), *(line.rstrip() for line in lines[1:])])
    return tables


def _taken(waiting: list[list[str]], room: int, bar: int) -> int:
    """How many of the next columns find room, one at least."""
    used = bar
    for number, column in enumerate(waiting):
        used += max(map(len, column)) + 2
        if used > room:
            return max(number, 1)
    return len(waiting)


def _bars(rows: list[UsageRow], room: int) -> tuple[str, list[str]]:
    """Each row's part of the largest, and what it is a part of: the cost when any is known, else the calls."""
    by_cost = any(row.cost for row in rows)
    sizes = [float(row.cost or 0) if by_cost else float(row.calls) for row in rows]
    most = max(sizes, default=0.0) or 1.0
    bars = [styled("█" * max(round(room * each / most), int(each > 0)), "36") for each in sizes]
    return "by cost" if by_cost else "by calls", bars
