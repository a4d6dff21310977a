"""
What a ledger holds of a call and what it does not: prompts are nowhere unless asked for, and off leaves nothing.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import ok, status
from support.fault_server import FaultServer
from support.ledger_calls import HI, SECRET, VERDICT, WAV, client, rows, run
from support.ledgers import count, program

from llm_master import Ledger, LLMError, QueryLLM, Usage

WHOLE = ok("whole", usage=Usage(11, 7))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "usage.sqlite3"


def traces(folder: Path) -> bytes:
    """Every byte of every file of a ledger."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    assert {each.name for each in files} >= {"usage.sqlite3", "usage.sqlite3-wal"}, "it is open"
    return b"".join(each.read_bytes() for each in files)


async def asked(llm: QueryLLM, *, stream: bool) -> None:
    found = await llm.query("gpt-4o-mini", HI, stream=stream)
    if stream:
        async for _ in found:
            pass


@pytest.mark.parametrize("contents", [False, True])
def test_prompts_and_answers_are_kept_when_asked_for_and_never_else(
    contents: bool, path: Path, fault_server: FaultServer
) -> None:
    fault_server.script(
        [
            *(ok(f"I know {SECRET}"), ok(f"I know {SECRET}")),
            status(400, {"error": {"message": f"what is {SECRET}?", "code": "invalid_prompt"}}),
            faults.cut_mid_stream(2, text=(f"{SECRET} ", "two ", "three")),
            status(200, VERDICT),
        ]
    )

    async def main() -> bytes:
        ledger = Ledger(path, contents=contents)
        async with client(fault_server, ledger) as llm:
            await llm.query("gpt-4o-mini", HI, tags=["team-a"])
            await (await llm.query("gpt-4o-mini", HI, stream=True)).text()
            for stream in (False, True):
                with pytest.raises(LLMError):
                    await asked(llm, stream=stream)
            await llm.moderate(HI)
            assert ledger.flush()
            found = traces(path.parent)
        ledger.close()
        return found

    found = run(main())
    assert count(path) == 5
    assert b"sk-ledger" not in found
    assert (SECRET.encode() in found) is contents
    assert b"team-a" in found
    kept = [row["contents"] for row in rows(path)]
    if contents:
        first = json.loads(kept[0])
        assert first == {"messages": [{"role": "user", "content": HI}], "content": f"I know {SECRET}"}
        assert all(HI in each for each in kept)
    else:
        assert kept == [None] * 5


def test_contents_that_no_json_can_hold_lose_no_row(path: Path, fault_server: FaultServer) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    part = {"type": "text", "text": "a", "cache_control": deep}
    odd = [{"role": "user", "content": "half \ud800 a character"}], [{"role": "user", "content": [part]}]

    async def main() -> None:
        ledger = Ledger(path, contents=True)
        async with client(fault_server, ledger) as llm:
            for messages in odd:
                # The request cannot be written either.
                with pytest.raises(LLMError):
                    await llm.query("gpt-4o-mini", messages)
        ledger.close()

    run(main())
    assert [json.loads(row["contents"])["shown"] for row in rows(path)] == [
        "{'messages': [{'role': 'user', 'content': 'half \\ud800 a character'}], 'content': None}",
        "nested too deeply",
    ]


def test_tools_and_transcripts_are_contents_too(path: Path, fault_server: FaultServer) -> None:
    tool = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"the sky"}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [tool]}
    body = {"model": "m", "choices": [{"index": 0, "message": answer, "finish_reason": "tool_calls"}]}
    fault_server.script([status(200, body), status(200, {"text": "Hello."})])

    async def main() -> None:
        ledger = Ledger(path, contents=True)
        async with client(fault_server, ledger) as llm:
            await llm.query("gpt-4o-mini", HI)
            await llm.transcribe("openai/whisper-1", WAV)
        ledger.close()

    run(main())
    first, second = (json.loads(row["contents"]) for row in rows(path))
    assert first["tool_calls"] == [{"id": "call_1", "name": "look", "arguments": '{"at":"the sky"}'}]
    assert second == {"messages": [], "content": "Hello."}


OFF = """
import asyncio, os
from llm_master import LLMConfig, QueryLLM
async def main():
    config = LLMConfig(openai_api_key="sk-off-0123456789", base_urls={"openai": argv[0]})
    async with QueryLLM(config, **({"ledger": "off"} if argv[1] == "argument" else {})) as llm:
        await llm.query("gpt-4o-mini", "Hi")
        await (await llm.query("gpt-4o-mini", "Hi", stream=True)).text()
asyncio.run(main())
print("sqlite3" in sys.modules)
"""


@pytest.mark.parametrize("switch", ["argument", "variable"])
def test_off_leaves_nothing(
    switch: str, tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.default = ok("whole")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("LLM_MASTER_LEDGER", "off" if switch == "variable" else str(tmp_path / "usage.sqlite3"))
    assert program(f"import os\nos.chdir({str(tmp_path)!r})\n{OFF}", fault_server.url, switch).stdout == "False\n"
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_says_what_the_answers_said(path: Path, fault_server: FaultServer) -> None:
    fault_server.script([ok("one", usage=Usage(11, 7)), status(503), ok("two", usage=Usage(5, 3))])

    async def main() -> list[Any]:
        ledger = Ledger(path, mode="strict")
        async with client(fault_server, ledger) as llm:
            found = [await llm.query("gpt-4o-mini", HI)]
            found.append(await llm.query("gpt-4o-mini", HI, max_attempts=2))
        ledger.close()
        return found

    found = run(main())
    for response, call in zip(found, rows(path), strict=True):
        attempts = [each for each in rows(path, "attempts") if each["call_id"] == response.call_id]
        assert call["attempts"] == len(attempts) == len(response.attempts)
        assert (call["input_tokens"], call["output_tokens"]) == (
            *(response.usage.input_tokens, response.usage.output_tokens),
        )
        assert (
            response.cost == Decimal(call["cost"]) / 10**12 == sum(each["cost"] for each in attempts) / Decimal(10**12)
        )
        assert call["latency_us"] >= int(response.latency * 1e6)
