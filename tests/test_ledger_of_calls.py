"""
Every call of a client is in the ledger: what was answered, what failed, what was left, and what it cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, status
from support.fault_server import FaultServer
from support.ledgers import made, until

from llm_master import (
    Attempt,
    ConfigurationError,
    Ledger,
    LedgerError,
    LLMConfig,
    LLMResponse,
    ModelConfig,
    ProviderError,
    QueryLLM,
    RetryPolicy,
    Usage,
)
from llm_master.ledger.book import _Entry
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TOKENS
from llm_master.policy.limits import MemoryLimiter

HI = "Hi, my password is swordfish"
PRICED = ModelConfig(input_price_per_million=1.0, output_price_per_million=10.0)


def client(server: FaultServer, ledger: Any, **options: Any) -> QueryLLM:
    return QueryLLM(
        LLMConfig(openai_api_key="sk-ledger-0123456789", base_urls={"openai": server.url}),
        registry={"gpt-4o-mini": PRICED, "gpt-4.1": PRICED},
        retry=RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002),
        limiter=MemoryLimiter(),
        ledger=ledger,
        **options,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "usage.sqlite3"


def rows(path: Path, table: str = "calls") -> list[dict[str, Any]]:
    order = "seq" if table == "calls" else "call_id, number"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


@pytest.mark.parametrize("stream", [False, True])
def test_a_strict_row_is_there_before_the_answer(stream: bool, path: Path, fault_server: FaultServer) -> None:
    fault_server.script([ok("whole", usage=Usage(11, 7))])

    async def main() -> Any:
        llm = client(fault_server, Ledger(path, mode="strict"))
        answer = await llm.query("gpt-4o-mini", HI, stream=stream, tags=["team-a", "night"])
        if stream:
            assert await answer.text() == "whole"
            answer = answer.response
        # Nothing was closed or flushed so far.
        found = rows(path), rows(path, "attempts"), answer
        await llm.aclose()
        return found

    (call,), (attempt,), answer = run(main())
    assert call["id"] == answer.call_id == attempt["call_id"]
    assert (call["model_asked"], call["model"], call["provider"], call["outcome"]) == (
        *("gpt-4o-mini", "gpt-4o-mini", "openai", "ok"),
    )
    assert (call["input_tokens"], call["output_tokens"], call["usage_estimated"]) == (11, 7, 0)
    assert (call["cost"], call["cost_complete"]) == (81_000_000, 1)  # (11 x 1 + 7 x 10) / 1e6 USD
    assert (call["tags"], call["streamed"], call["attempts"], call["fallback"]) == (
        *('["team-a","night"]', int(stream), 1, 0),
    )
    assert (call["bytes_sent"], call["bytes_received"] > 0) == (len(fault_server.requests[0].body), True)
    assert (call["ttft_us"] is not None) == stream
    assert 0 < attempt["latency_us"] <= call["latency_us"]
    assert call["contents"] is None
    assert {tag["tag"] for tag in rows_of_tags(path)} == {"team-a", "night"}


def test_every_value_stands_in_its_own_column() -> None:
    """No two of them are equal, so that a value in another's column is seen."""
    counts = dict(zip(TOKENS, range(101, 101 + len(TOKENS)), strict=True))
    attempt = Attempt(
        *("openai", "gpt-served"),
        outcome="error",
        status_code=207,
        error="APIError",
        error_code="odd",
        started=0.25,
        latency=0.5,
        time_to_first_token=0.125,
        waited=0.0625,
        wait_reason="retry",
        key_id="key-1",
        deployment="east",
        request_id="req-attempt",
        usage=Usage(**counts, estimated=True),
        reported_cost=Decimal("0.75"),
        bytes_sent=31,
        bytes_received=32,
    )
    response = LLMResponse(
        *("said", "gpt-served"),
        provider="azure",
        model="gpt-answered",
        finish_reason="length",
        request_id="req-call",
        time_to_first_token=0.375,
        service_tier="flex",
    )
    record = SimpleNamespace(
        uid="id", model_name="gpt-asked", kind="chat", streamed=True, tags=("b", "a", "b"), attempts=[attempt]
    )
    entry = _Entry(record, "ok", response, None, 2.0)
    entry.ts, entry.contents = 1_000_000, "contents"
    call, attempts, tags = entry()
    tokens = counts | {"usage_estimated": 1}
    assert dict(zip(CALL_COLUMNS, call, strict=True)) == tokens | {
        "id": "id",
        "ts": 1_000_000,
        "kind": "chat",
        "streamed": 1,
        "request_id": "req-call",
        "model_asked": "gpt-asked",
        "model": "gpt-answered",
        "provider": "azure",
        "deployment": "east",
        "key_id": "key-1",
        "tags": '["b","a"]',
        "outcome": "ok",
        "error": None,
        "error_code": None,
        "finish_reason": "length",
        "attempts": 1,
        "fallback": 1,
        "cached": 0,
        "cost": 750_000_000_000,
        "cost_complete": 1,
        "price_source": "provider",
        "price_as_of": None,
        "service_tier": "flex",
        "latency_us": 2_000_000,
        "ttft_us": 375_000,
        "bytes_sent": 31,
        "bytes_received": 32,
        "contents": "contents",
    }
    assert [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempts] == [
        tokens
        | {
            "call_id": "id",
            "number": 1,
            "ts": 1_250_000,
            "provider": "openai",
            "model": "gpt-served",
            "deployment": "east",
            "key_id": "key-1",
            "request_id": "req-attempt",
            "outcome": "error",
            "status_code": 207,
            "error": "APIError",
            "error_code": "odd",
            "cost": 750_000_000_000,
            "cost_complete": 1,
            "price_source": "provider",
            "latency_us": 500_000,
            "ttft_us": 125_000,
            "waited_us": 62_500,
            "wait_reason": "retry",
        }
    ]
    assert tags == [("b", "id", 1_000_000), ("a", "id", 1_000_000)]


def rows_of_tags(path: Path) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [{"tag": tag} for (tag,) in connection.execute("SELECT tag FROM call_tags")]


def test_failures_fallbacks_and_what_was_left_are_rows_too(path: Path, fault_server: FaultServer) -> None:
    fault_server.script(
        [
            *(status(503), status(503)),
            *(status(503), status(503), ok("from the other", usage=Usage(5, 3))),
            faults.stall_mid_stream(2, text=("one ", "two ", "three")),
            faults.cut_mid_stream(2, text=("one ", "two ", "three")),
            hold(),
        ]
    )

    async def main() -> None:
        async with client(fault_server, Ledger(path)) as llm:
            with pytest.raises(ProviderError):
                await llm.query("gpt-4o-mini", HI)
            await llm.query("gpt-4o-mini", HI, fallback_model="gpt-4.1")
            stream = await llm.query("gpt-4o-mini", HI, stream=True)
            async for _text in stream:
                break
            await stream.aclose()
            stream = await llm.query("gpt-4o-mini", HI, stream=True)
            with pytest.raises(ProviderError):
                async for _text in stream:
                    pass
            task = asyncio.ensure_future(llm.query("gpt-4o-mini", HI))
            while len(fault_server.requests) < 8:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(main())
    calls = rows(path)
    assert [(row["outcome"], row["error"], row["attempts"], row["fallback"]) for row in calls] == [
        ("error", "OverloadedError", 2, 0)
        if calls[0]["error"] == "OverloadedError"
        else ("error", "ServerError", 2, 0),
        ("ok", None, 3, 1),
        ("cancelled", None, 1, 0),
        ("interrupted", "StreamInterrupted", 1, 0),
        ("cancelled", "CancelledError", 1, 0),
    ]
    assert [(row["cost"], row["usage_estimated"]) for row in calls[:2]] == [(0, 0), (35_000_000, 0)]
    for row in calls[2:]:
        assert row["usage_estimated"] == 1
        assert row["cost"] == row["input_tokens"] * 10**6 + row["output_tokens"] * 10**7
    attempts = rows(path, "attempts")
    assert [row["outcome"] for row in attempts] == [
        *("error", "error", "error", "error", "ok", "cancelled", "interrupted", "cancelled"),
    ]
    assert sum(row["cost"] for row in attempts) == sum(row["cost"] for row in calls)
    assert b"swordfish" not in path.read_bytes()
    assert b"sk-ledger" not in path.read_bytes()


def test_a_kept_answer_costs_nothing(path: Path, fault_server: FaultServer) -> None:
    fault_server.script([ok("whole", usage=Usage(11, 7))])

    async def main() -> None:
        async with client(fault_server, Ledger(path), cache="memory") as llm:
            for _ in range(2):
                await llm.query("gpt-4o-mini", HI)

    run(main())
    first, second = rows(path)
    assert (first["cached"], first["cost"], first["input_tokens"]) == (0, 81_000_000, 11)
    assert (second["cached"], second["cost"], second["input_tokens"], second["price_source"]) == (1, 0, 0, "cache")


def test_contents_are_kept_when_asked_for(path: Path, fault_server: FaultServer) -> None:
    fault_server.script([ok("whole")])

    async def main() -> None:
        async with client(fault_server, Ledger(path, contents=True)) as llm:
            await llm.query("gpt-4o-mini", HI)

    run(main())
    assert rows(path)[0]["contents"] == f'{{"messages":[{{"role":"user","content":"{HI}"}}],"content":"whole"}}'


def test_a_ledger_that_cannot_be_written_serves_or_refuses(tmp_path: Path, fault_server: FaultServer) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    fault_server.script([ok("whole"), ok("whole")])

    async def main(ledger: Any) -> Any:
        async with client(fault_server, ledger) as llm:
            return await llm.query("gpt-4o-mini", HI)

    relaxed, strict = Ledger(file / "usage.sqlite3"), Ledger(file / "other.sqlite3", mode="strict")
    relaxed._writer.retry = strict._writer.retry = 0.005
    assert run(main(relaxed)).content == "whole"
    answer = run(main(strict))
    assert answer.content == "whole"
    assert any("ledger" in note for note in answer.notes)
    with pytest.raises(LedgerError):
        run(main(Ledger(file / "third.sqlite3", on_failure="refuse")))
    assert len(fault_server.requests) == 2
    file.unlink()
    for ledger in (relaxed, strict):
        until(lambda: ledger.health().ok)  # noqa: B023  # called at once
        ledger.close()
        assert len(rows(Path(ledger.path))) == 1


def test_a_call_by_default_goes_where_the_environment_says(
    path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(ledger: Any) -> None:
        async with client(fault_server, ledger) as llm:
            await llm.query("gpt-4o-mini", HI)

    monkeypatch.setenv("LLM_MASTER_LEDGER", str(path))
    run(main("off"))
    assert not path.exists()
    run(main(None))
    run(main("strict"))
    assert len(rows(path)) == 2
    monkeypatch.setenv("LLM_MASTER_LEDGER", "off")
    run(main(None))
    assert len(rows(path)) == 2
    with pytest.raises(ConfigurationError, match="ledger='always'"):
        run(main("always"))


def test_looking_at_a_call_writes_nothing(path: Path, fault_server: FaultServer) -> None:
    async def main() -> None:
        async with client(fault_server, Ledger(path)) as llm:
            llm.explain("gpt-4o-mini", HI)

    run(main())
    assert not path.exists()


def test_coroutines_that_wait_share_a_commit_and_one_that_gave_up_disturbs_none(path: Path) -> None:
    async def main() -> tuple[list[LedgerError | None], int]:
        ledger = Ledger(path, mode="strict")
        waits = [ledger.commit_soon(made()) for _ in range(40)]
        waits[7].cancel()
        found = [await wait for number, wait in enumerate(waits) if number != 7]
        written = ledger.health().written
        await asyncio.to_thread(ledger.close)
        return found, written

    found, written = run(main())
    assert (found, written) == ([None] * 39, 40)
    assert len(rows(path)) == 40


def test_a_loop_that_ended_while_rows_were_written_is_no_harm(path: Path) -> None:
    async def leave() -> None:
        for _ in range(20):
            ledger.commit_soon(made())

    ledger = Ledger(path, mode="strict")
    for _ in range(3):
        asyncio.run(leave())
    ledger.commit(made()).result(10)
    ledger.close()
    assert ledger.health().failure is None
    assert len(rows(path)) == 61
