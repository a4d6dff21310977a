"""
``llm-master logs``: the newest calls, or one call with all its attempts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_master.cli.figures import fit, harmless, left, money, reader, seconds, size, styled, when, width
from llm_master.cli.terminal import json_line, print_json
from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from llm_master.ledger.reading import AttemptRow, CallRecord, CallRow, Reader

__all__ = ["logs"]

# Digits of an id that are shown, and the most columns of an outcome and the least of a model's name.
_ID, _RESULT, _NAME = 16, 20, 12
_RED, _BOLD = "31", "1"


def logs(
    request_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A call's id, 6 or more of its first digits, or the provider's request id."),
    ] = None,
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="How many calls.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing calls as they come.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Only calls that failed or broke off.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="7d, 12h, 2026-11-01: from then on.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="The same: before then.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Only these; * and ? may stand.")
    ] = None,
    provider: Annotated[list[str] | None, typer.Option("--provider", metavar="NAME", help="Only these.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", metavar="ID", help="Only these public ids of keys.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only calls with one of these.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="utc, local or Europe/Berlin.")] = "utc",
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", metavar="PATH", help="A file, or postgresql://...; else LLM_MASTER_LEDGER."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON; with --follow a line a call.")] = False,
) -> None:
    """
    Show the newest calls, or one call with all its attempts.
    """
    where = reader(ledger, timezone)
    if request_id is not None:
        if follow:
            raise InvalidRequestError("--follow shows calls as they come; leave the id away")
        _show_one(where, where.call(request_id), as_json=json_output)
        return
    chosen = where.selection(
        since=since, until=until, model=model or (), provider=provider or (), key=key or (), tag=tag or ()
    )
    if follow:
        _follow(where, where.follow(count, chosen, errors=errors), as_json=json_output)
        return
    found = where.calls(count, chosen, errors=errors)
    if json_output:
        print_json([_facts(row) for row in found])
        return
    _show(where, found)
    if not found and sys.stdout.isatty():
        sys.stdout.write("no calls\n")


def _follow(where: Reader, batches: Iterator[list[CallRow]], *, as_json: bool) -> None:
    day = ""
    for rows in batches:
        if as_json:
            sys.stdout.writelines(json_line(_facts(row)) + "\n" for row in rows)
        else:
            day = _show(where, rows, day=day)
        sys.stdout.flush()


def _facts(row: CallRow | AttemptRow) -> dict[str, Any]:
    """A row as JSON has it: the columns' own names, and the cost in exact USD."""
    from llm_master.ledger.rows import tags_of, usd

    found = {name: getattr(row, name) for name in row.__struct_fields__}
    if "tags" in found:
        found["tags"] = tags_of(found["tags"])
    cost = usd(found.pop("cost"))
    return {**found, "cost_usd": None if cost is None else f"{cost:f}"}


def _show(where: Reader, rows: list[CallRow], *, day: str = "") -> str:
    """Print a line a call, in a terminal under their days; ``day`` is the last that was printed, and is given back."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(map(harmless, _cells(where, row))) + "\n")
        return day
    cells = [_cells(where, row) for row in rows]
    for row, each, line in zip(rows, cells, _lines(rows, cells, width()), strict=True):
        today = each[0].partition(" ")[0]
        if today != day:
            sys.stdout.write(styled(today, _BOLD) + "\n")
            day = today
        sys.stdout.write((styled(line, _RED) if row.outcome not in ("ok", "cancelled") else line) + "\n")
    return day


def _cells(where: Reader, row: CallRow) -> list[str]:
    from llm_master.ledger.rows import usd

    model = row.model or row.model_asked
    cost = money(usd(row.cost)) + ("" if row.cost is None or row.cost_complete else "+")
    return [
        *(when(where, row.ts), row.id, row.outcome if row.error is None else row.error, f"{row.latency_us / 1e6:.3f}"),
        *(f"{row.input_tokens}", f"{row.output_tokens}", cost, f"{row.provider}/{model}" if row.provider else model),
    ]


def _lines(rows: list[CallRow], cells: list[list[str]], room: int) -> list[str]:
    """A line a call, at most so wide; a narrow terminal does without a part, the same in every line."""
    results = min(max((len(each[2]) for each in cells), default=0), _RESULT)
    heads = [
        f"{each[0][11:]} {harmless(row.id[:_ID])} {left(harmless(each[2]), results)}"
        for row, each in zip(rows, cells, strict=True)
    ]
    took = [f"  {each} s" for each in _right([seconds(row.latency_us) for row in rows])]
    full = [harmless(each[7]) for each in cells]
    short = [harmless(row.model or row.model_asked) for row in rows]
    tokens = _right([f"{each[4]}+{each[5]}" for each in cells])
    words = [f"{each} tokens" for each in tokens]
    costs = [f"  {each[6]}" for each in cells]
    nothing = [""] * len(rows)
    layouts = ((took, full, words), (took, full, tokens), (took, short, tokens), (took, short, nothing))
    for time, names, used in (*layouts, (nothing, short, nothing)):
        ends = [f"  {each}{cost}" if each else cost for each, cost in zip(used, costs, strict=True)]
        wide = max(map(size, names), default=0)
        starts = [head + each + "  " for head, each in zip(heads, time, strict=True)]
        spare = min((room - len(a) - len(z) for a, z in zip(starts, ends, strict=True)), default=room)
        if spare >= wide or (time is took and used is nothing and spare >= _NAME):
            break
    wide = max(min(spare, wide), 1)
    # A cost is shown whole: one that is cut off looks like another.
    return [fit(a + left(name, wide), room - len(z)) + z for a, name, z in zip(starts, names, ends, strict=True)]


def _right(texts: list[str]) -> list[str]:
    wide = max(map(len, texts), default=0)
    return [text.rjust(wide) for text in texts]


def _show_one(where: Reader, found: CallRecord, *, as_json: bool) -> None:
    if as_json:
        print_json({**_facts(found.call), "timeline": [_facts(each) for each in found.attempts]})
        return
    lines = [
        *_call_lines(where, found.call),
        *(line for each in found.attempts for line in _attempt_lines(found, each)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _call_lines(where: Reader, call: CallRow) -> list[str]:
    from llm_master.ledger.rows import tags_of

    tokens = f"{call.input_tokens} in, {call.output_tokens} out"
    parts = [
        *("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens", "input_audio_tokens"),
        *("output_audio_tokens", "input_image_tokens", "output_image_tokens", "web_searches"),
    ]
    tokens += "".join(f", {name.replace('_', ' ')} {getattr(call, name)}" for name in parts if getattr(call, name))
    source = f" ({call.price_source}{', ' + call.price_as_of if call.price_as_of else ''})" if call.price_source else ""
    ways = ["streamed"] * call.streamed + ["from the cache"] * call.cached + ["by a fallback"] * call.fallback
    facts = {
        "call": call.id,
        "began": f"{when(where, call.ts)} {where.zone.name}",
        "kind": ", ".join([call.kind, *ways]),
        "asked": call.model_asked,
        "served": f"{call.provider or '?'}/{call.model or '?'}" if call.provider or call.model else None,
        "deployment": call.deployment,
        "key": call.key_id,
        "request id": call.request_id,
        "tags": ", ".join(tags_of(call.tags)) or None,
        "outcome": _outcome(call),
        "ended by": call.finish_reason,
        "tokens": tokens + (" (estimated)" if call.usage_estimated else ""),
        "cost": _cost(call) + source,
        "tier": call.service_tier,
        "latency": f"{seconds(call.latency_us)} s{_first(call.ttft_us)}",
        "bytes": f"{call.bytes_sent} sent, {call.bytes_received} received",
        "contents": call.contents,
    }
    return [f"{name:<12}{harmless(value)}" for name, value in facts.items() if value is not None]


def _cost(row: CallRow | AttemptRow) -> str:
    from llm_master.ledger.rows import usd

    return money(usd(row.cost)) + ("" if row.cost is None or row.cost_complete else " and parts without a known price")


def _first(micros: int | None) -> str:
    return "" if micros is None else f", first token after {seconds(micros)} s"


def _outcome(row: CallRow | AttemptRow) -> str:
    more = [each for each in (row.error, row.error_code) if each]
    return row.outcome + (f": {', '.join(more)}" if more else "")


def _attempt_lines(found: CallRecord, row: AttemptRow) -> list[str]:

    after = seconds(max(0, row.ts - found.call.ts))
    heading = f"attempt {row.number}, +{after} s: {row.provider}/{row.model}"
    status = f"HTTP {row.status_code}, " if row.status_code is not None else ""
    waited = f"waited {seconds(row.waited_us)} s" + (f" ({row.wait_reason})" if row.wait_reason else "")
    source = f" ({row.price_source})" if row.price_source else ""
    lines = [waited] if row.waited_us or row.wait_reason else []
    lines += [f"{status}{_outcome(row)} in {seconds(row.latency_us)} s{_first(row.ttft_us)}"]
    if row.input_tokens or row.output_tokens or row.cost is not None:
        lines.append(f"{row.input_tokens} tokens in, {row.output_tokens} out, {_cost(row)}{source}")
    names = {"deployment": row.deployment, "key": row.key_id, "request id": row.request_id}
    more = ", ".join(f"{name} {value}" for name, value in names.items() if value)
    lines += [more] if more else []
    return ["", styled(harmless(heading), _BOLD), *(f"  {harmless(line)}" for line in lines)]
