"""
What the ledger promises of every kind of call: strict rows are there before an answer is shown, relaxed ones soon;
and nobody's end goes unwritten.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, status
from support.fault_server import FaultServer
from support.leaving import cancelled_once
from support.ledger_calls import HI, SECRET, VERDICT, WAV, client, rows, run
from support.ledgers import count, made, program, until
from support.sound_pieces import bare, events, transcript_events

from llm_master import Ledger, LLMError, QueryLLM, StreamInterrupted, Usage

PIECES = [b"ID3\x04 first", b"\x00\xff second"]
SAID = [f"My {SECRET} ", "is blue."]
VECTORS = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"index": 0, "embedding": [0.5, 1.0]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
RANKED = {"results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 7}}
PICTURE = {"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": {"input_tokens": 5, "output_tokens": 9}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "usage.sqlite3"


# Strict: before the answer is shown -----------------------------------------------------------------------------------


async def _texts(stream: Any) -> Any:
    return [piece async for piece in stream]


async def _events(stream: Any) -> Any:
    return [event async for event in stream.events()]


async def _batches(stream: Any) -> Any:
    return [batch async for batch in stream.batches()]


Work = Callable[[QueryLLM], Awaitable[Any]]
WHOLE = ok("whole", usage=Usage(11, 7))
CALLS: dict[str, tuple[Any, Work]] = {
    "chat": (WHOLE, lambda llm: llm.query("gpt-4o-mini", HI)),
    "image": (status(200, PICTURE), lambda llm: llm.query("gpt-image-2", HI)),
    "embed": (status(200, VECTORS), lambda llm: llm.embed("text-embedding-3-small", HI)),
    "rerank": (status(200, RANKED), lambda llm: llm.rerank("voyage/rerank-2.5", HI, ["a"])),
    "moderate": (status(200, VERDICT), lambda llm: llm.moderate(HI)),
    "transcribe": (status(200, {"text": SAID[0]}), lambda llm: llm.transcribe("openai/whisper-1", WAV)),
    "speak": (bare(PIECES, framing="length"), lambda llm: llm.speak("openai/tts-1", HI, voice="alloy")),
}
Read = Callable[[Any], Awaitable[Any]]
STREAMS: dict[str, tuple[str, Any, Work, Read]] = {
    "chat": ("chat", WHOLE, lambda llm: llm.query("gpt-4o-mini", HI, stream=True), _texts),
    "chat-text": ("chat", WHOLE, lambda llm: llm.query("gpt-4o-mini", HI, stream=True), lambda each: each.text()),
    "chat-events": ("chat", WHOLE, lambda llm: llm.query("gpt-4o-mini", HI, stream=True), _events),
    "chat-batches": ("chat", WHOLE, lambda llm: llm.query("gpt-4o-mini", HI, stream=True), _batches),
    "speak": ("speak", bare(PIECES), lambda llm: llm.speak("openai/tts-1", HI, voice="a", stream=True), _texts),
    "speak-whole": (
        *("speak", bare(PIECES), lambda llm: llm.speak("openai/tts-1", HI, voice="a", stream=True)),
        lambda each: each.whole(),
    ),
    "transcribe": (
        *("transcribe", events(transcript_events("openai", SAID))),
        *(lambda llm: llm.transcribe("gpt-4o-transcribe", WAV, stream=True), _batches),
    ),
}


async def shown_after_commit(path: Path, ledger: Ledger, work: Awaitable[Any]) -> Any:
    """What the work gives, or the error that it ends with; while the writer is held up it must give nothing."""
    task = asyncio.ensure_future(work)
    writer = ledger._writer
    with writer._gate:  # it cannot commit
        while not writer.pending:
            await asyncio.sleep(0.001)
        # The row is queued: from here on the call waits for nothing else.
        for _ in range(200):
            await asyncio.sleep(0)
        assert (task.done(), count(path)) == (False, 0)
    try:
        return await task
    except LLMError as error:
        return error
    finally:
        # Nothing was flushed or closed so far.
        assert count(path) == 1


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("fails", [False, True], ids=["answer", "error"])
def test_a_strict_row_is_committed_before_the_call_ends(
    kind: str, fails: bool, path: Path, fault_server: FaultServer
) -> None:
    behaviour, ask = CALLS[kind]
    fault_server.default = status(400, {"error": {"message": f"I refuse {SECRET}"}}) if fails else behaviour

    async def main() -> Any:
        ledger = Ledger(path, mode="strict")
        async with client(fault_server, ledger) as llm:
            found = await shown_after_commit(path, ledger, ask(llm))
        ledger.close()
        return found

    found = run(main())
    assert isinstance(found, LLMError) == fails
    [call], [attempt] = rows(path), rows(path, "attempts")
    # A picture that failed is a question like any other.
    assert call["kind"] == ("chat" if fails and kind == "image" else kind)
    assert (call["outcome"], call["streamed"], attempt["outcome"]) == (("error" if fails else "ok"), 0, call["outcome"])
    assert attempt["call_id"] == call["id"]
    if not fails:
        assert found.call_id == call["id"]
        assert call["input_tokens"] == found.usage.input_tokens
    assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", STREAMS)
def test_a_strict_row_is_committed_before_a_stream_ends(name: str, path: Path, fault_server: FaultServer) -> None:
    kind, fault_server.default, begin, read = STREAMS[name]

    async def main() -> Any:
        ledger = Ledger(path, mode="strict")
        async with client(fault_server, ledger) as llm:
            stream = await begin(llm)
            assert count(path) == 0
            await shown_after_commit(path, ledger, read(stream))
            response = stream.response
        ledger.close()
        return response

    response = run(main())
    [call], [attempt] = rows(path), rows(path, "attempts")
    assert (call["kind"], call["streamed"], call["outcome"], attempt["outcome"]) == (kind, 1, "ok", "ok")
    assert response.call_id == call["id"] == attempt["call_id"]
    assert call["ttft_us"] is not None
    assert call["bytes_received"] > 0
    assert SECRET.encode() not in path.read_bytes()


CUT: dict[str, tuple[Any, Work]] = {
    "chat": (
        faults.cut_mid_stream(2, text=("one ", "two ", "three")),
        lambda llm: llm.query("gpt-4o-mini", HI, stream=True),
    ),
    "speak": (
        bare(PIECES, framing="length", after=1, then=faults.close),
        lambda llm: llm.speak("openai/tts-1", HI, voice="alloy", stream=True),
    ),
    "transcribe": (
        events(transcript_events("openai", SAID)[:1]),
        lambda llm: llm.transcribe("gpt-4o-transcribe", WAV, stream=True),
    ),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_strict_row_is_committed_before_an_interruption_is_raised(
    kind: str, path: Path, fault_server: FaultServer
) -> None:
    fault_server.default, begin = CUT[kind]

    async def main() -> Any:
        ledger = Ledger(path, mode="strict")
        async with client(fault_server, ledger) as llm:
            found = await shown_after_commit(path, ledger, _texts(await begin(llm)))
        ledger.close()
        return found

    assert isinstance(run(main()), StreamInterrupted)
    [call], [attempt] = rows(path), rows(path, "attempts")
    assert (call["kind"], call["outcome"], call["error"]) == (kind, "interrupted", "StreamInterrupted")
    assert attempt["outcome"] == "interrupted"


@pytest.mark.parametrize("kind", ["chat", "speak"])
@pytest.mark.parametrize("leave", ["cancelled", "closed"])
def test_a_stream_that_is_left_has_its_row(kind: str, leave: str, path: Path, fault_server: FaultServer) -> None:
    """Nobody waits for it: who leaves gets no answer."""
    fault_server.default = (
        faults.stall_mid_stream(1, text=("one ", "two ")) if kind == "chat" else bare(PIECES, after=1, then=hold())
    )
    ledger = Ledger(path, mode="strict")

    async def main() -> None:
        async with client(fault_server, ledger) as llm:
            stream: Any = await STREAMS[kind][2](llm)
            if leave == "closed":
                async for _ in stream:
                    break
                await stream.aclose()
            else:
                task = asyncio.ensure_future(_texts(stream))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            while not count(path):
                await asyncio.sleep(0.001)

    run(main())
    ledger.close()
    [call], [attempt] = rows(path), rows(path, "attempts")
    assert (call["kind"], call["outcome"], call["streamed"]) == (kind, "cancelled", 1)
    assert attempt["outcome"] == "cancelled"


def test_a_stream_that_goes_after_its_loop_has_its_row(path: Path, fault_server: FaultServer) -> None:
    # The server does not stream, so that no connection is left open.
    fault_server.default = status(200, {"text": "Hello."})
    ledger = Ledger(path, mode="strict")

    async def main() -> Any:
        async with client(fault_server, ledger) as llm:
            return await llm.transcribe("gpt-4o-transcribe", WAV, stream=True)

    stream = run(main())
    assert count(path) == 0
    del stream
    gc.collect()
    until(lambda: count(path))
    ledger.close()
    assert [(row["kind"], row["outcome"]) for row in rows(path)] == [("transcribe", "cancelled")]


def test_a_strict_call_that_is_cancelled_has_its_row(path: Path, fault_server: FaultServer) -> None:
    fault_server.default = hold()
    ledger = Ledger(path, mode="strict")

    async def main() -> None:
        async with client(fault_server, ledger) as llm:
            task = asyncio.ensure_future(llm.embed("text-embedding-3-small", HI))
            await cancelled_once(lambda: fault_server.requests, task)
            while not count(path):
                await asyncio.sleep(0.001)

    run(main())
    ledger.close()
    [call] = rows(path)
    assert (call["kind"], call["outcome"], call["error"]) == ("embed", "cancelled", "CancelledError")


def test_who_goes_while_the_row_is_committed_leaves_it_whole(path: Path, fault_server: FaultServer) -> None:
    fault_server.default = WHOLE
    ledger = Ledger(path, mode="strict")

    async def main() -> None:
        async with client(fault_server, ledger) as llm:
            with ledger._writer._gate:
                task = asyncio.ensure_future(llm.query("gpt-4o-mini", HI))
                await cancelled_once(lambda: ledger._writer.pending, task)
            while not count(path):
                await asyncio.sleep(0.001)

    run(main())
    ledger.close()
    # The provider has answered, and the answer is paid for.
    assert [(row["outcome"], row["input_tokens"]) for row in rows(path)] == [("ok", 11)]


def test_strict_calls_of_several_loops_share_a_ledger(path: Path, fault_server: FaultServer) -> None:
    fault_server.default = WHOLE
    ledger = Ledger(path, mode="strict")
    seen: list[set[str]] = []

    async def calls() -> set[str]:
        async with client(fault_server, ledger) as llm:
            answers = await asyncio.gather(*(llm.query("gpt-4o-mini", HI) for _ in range(10)))
            ids = {answer.call_id for answer in answers}
            assert ids <= {row["id"] for row in rows(path)}
        return ids

    threads = [threading.Thread(target=lambda: seen.append(run(calls()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert [len(ids) for ids in seen] == [10] * 4
    assert {row["id"] for row in rows(path)} == set().union(*seen)
    assert [row["outcome"] for row in rows(path)] == ["ok"] * 40


# Relaxed: soon, and nobody waits --------------------------------------------------------------------------------------


class Noted(threading.Event):
    """An event that notes how long it was waited for, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return super().wait(timeout)


def test_a_relaxed_row_waits_for_nothing_but_company(path: Path) -> None:
    """The 100 ms are 40 of waiting for more rows, and the rest for writing them."""
    ledger = Ledger(path)
    ledger.add(made())
    assert ledger.flush()
    until(lambda: ledger._writer.idle)
    before, ledger._writer._wake = ledger._writer._wake, Noted()
    before.set()  # who waits for the old one looks at the new one
    noted = ledger._writer._wake
    until(lambda: noted.waits)
    for number in range(5):
        noted.waits.clear()
        ledger.add(made())
        until(lambda: count(path) == 2 + number)  # noqa: B023  # called at once
        until(lambda: None in noted.waits)  # it sleeps again
        assert sum(seconds for seconds in noted.waits if seconds is not None) <= 0.05
        assert noted.waits.index(None) == len(noted.waits) - 1
    ledger.close()


def test_a_relaxed_call_waits_for_nothing(path: Path, fault_server: FaultServer) -> None:
    fault_server.default = WHOLE
    ledger = Ledger(path)

    async def main() -> Any:
        llm = client(fault_server, ledger)
        with ledger._writer._gate:  # the writer is held up, and no call is
            found = [await llm.query("gpt-4o-mini", HI) for _ in range(3)]
            stream = await llm.query("gpt-4o-mini", HI, stream=True)
            found.append(await stream.text())
            assert count(path) == 0
        await llm.aclose()
        return found

    assert len(run(main())) == 4
    assert count(path) == 4
    ledger.close()


FORK = """
import asyncio, warnings
from llm_master import LLMConfig, QueryLLM
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
made()
ledger = Ledger(argv[1], mode="strict", on_failure="refuse")
llm = QueryLLM(LLMConfig(openai_api_key="sk-fork-0123456789", base_urls={"openai": argv[0]}), ledger=ledger)

async def calls(name):
    for _ in range(5):
        response = await llm.query("gpt-4o-mini", "Hi", tags=[name])
        stream = await llm.query("gpt-4o-mini", "Hi", tags=[name], stream=True)
        await stream.text()
        seen = {response.call_id, stream.response.call_id}
    await llm.aclose()
    return len(seen)

assert asyncio.run(calls("parent")) == 2
children = []
for number in range(3):
    pid = os.fork()
    if not pid:
        fine = asyncio.run(calls(f"child-{number}")) == 2 and ledger.health().written == 10
        os._exit(0 if fine else 1)  # without any end of the interpreter: strict rows are there
    children.append(pid)
assert asyncio.run(calls("parent")) == 2
print([os.waitpid(pid, 0)[1] for pid in children], flush=True)
os._exit(0)
"""


def test_calls_of_forked_processes_are_all_there(path: Path, fault_server: FaultServer) -> None:
    fault_server.default = WHOLE
    done = program(FORK, fault_server.url, path)
    assert done.stdout == "[0, 0, 0]\n", done.stderr
    tags = [row["tag"] for row in rows(path, "call_tags")]
    assert {tag: tags.count(tag) for tag in set(tags)} == {"parent": 20, "child-0": 10, "child-1": 10, "child-2": 10}
    assert len({row["id"] for row in rows(path)}) == 50
