"""
A provider in a process of its own that fails as often as it is told to, and answers with what it is asked to say.

    python -m support.chaos_server --seed 7 --faults 0.4

A prompt is the JSON of ``{"id": ..., "say": text}``; the answer is the text, byte for byte, or its rest where the
request already holds an assistant's beginning of it. Which fault a request meets depends on the seed, the id and how
often that id was asked, and on nothing else: a run can be repeated.

It prints its address on a line, and for every line that it reads a report: JSON with the connections that are open,
the most requests that waited at a time, the requests by id and the faults by name. It ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from support import faults
from support.behaviours import close, hold, ok, rate_limited, reset, silence, status
from support.bodies import Event, Family
from support.exchange import Behaviour, Exchange, Seen
from support.fault_server import FaultServer

__all__ = ["ChaosServer"]

Make = Callable[[random.Random, dict[str, Any]], Behaviour]


def _pieces(rng: random.Random, text: str) -> tuple[str, ...]:
    """The text in up to 13 pieces, cut anywhere."""
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(13)))
    return tuple(text[one:two] for one, two in zip([0, *cuts], [*cuts, len(text)], strict=True) if one < two)


def _after(rng: random.Random) -> int:
    return rng.randrange(4)


def _without_finish(_: Family, events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind not in ("close", "finish", "usage", "end")]


# Every fault leaves the text whole or unmistakably broken: what is lost unseen (null content, wrong bytes) is not here.
FAULTS: dict[str, Make] = {
    "429 seconds": lambda rng, _: rate_limited("0.05"),
    "429 ms": lambda rng, _: rate_limited(None, ms="30"),
    "429 no hint": lambda rng, _: rate_limited(None),
    "429 nonsense": lambda rng, _: rate_limited(rng.choice(["NaN", "-1", "1e9", "soon"])),
    "500": lambda rng, _: status(500),
    "502": lambda rng, _: status(502, "<html>bad gateway</html>", content_type="text/html"),
    "503": lambda rng, _: status(503),
    "504": lambda rng, _: status(504),
    "529": lambda rng, _: status(529),
    "reset before": lambda rng, _: reset,
    "closed before": lambda rng, _: close,
    "reset after headers": lambda rng, say: faults.reset_after_headers(**say),
    "reset mid-body": lambda rng, say: faults.reset_mid_body(_after(rng), **say),
    "cut mid-body": lambda rng, say: faults.cut_mid_stream(_after(rng), **say),
    "clean cut": lambda rng, say: faults.cut_mid_stream(_after(rng), framing="close", **say),
    "silent": lambda rng, _: silence,
    "no first token": lambda rng, say: ok(after_head=silence, **say),
    "slow first token": lambda rng, say: faults.slow_first_token(rng.uniform(0.01, 0.1), **say),
    "stalled": lambda rng, say: ok(after=_after(rng), middle=silence, **say),
    "slow": lambda rng, say: ok(each=hold(rng.uniform(0.001, 0.01)), **say),
    "no marker": lambda rng, say: ok(edit=_without_finish, **say),
    "finished without [DONE]": lambda rng, say: faults.finish_without_done(**say),
    "malformed chunk": lambda rng, say: faults.malformed_chunk(1 + _after(rng), **say),
    "half a chunk": lambda rng, say: faults.truncated_json(_after(rng), **say),
    "error in stream": lambda rng, say: faults.error_in_stream(_after(rng), rng.choice([500, 529, 429]), **say),
    "error in 200": lambda rng, _: faults.error_object_200(rng.choice([500, 529, 429])),
    "HTML": lambda rng, _: faults.html_200(),
    "no choices": lambda rng, say: faults.empty_choices(**say),
    "not HTTP": lambda rng, _: faults.not_http,
    "noise": lambda rng, say: faults.keep_alive_noise(**say),
    "byte by byte": lambda rng, say: ok(piece_size=rng.choice([1, 7, 100]), newline="\r\n", bom=True, **say),
    "compressed": lambda rng, say: ok(gzip=True, **say),
    "closed after": lambda rng, say: faults.close_when_idle(**say),
    "usage twice": lambda rng, say: faults.duplicate_usage(**say),
}


class ChaosServer(FaultServer):
    """
    The server; it keeps numbers instead of requests.

    Args:
        seed: of the faults.
        faults: share of requests that fail.
        barrier: no request is answered before so many wait.
        pause: seconds before each answer.
    """

    def __init__(self, seed: str, faults: float, barrier: int = 0, pause: float = 0.0) -> None:
        super().__init__()
        self.seed = seed
        self.share = faults
        self.barrier = barrier
        self.pause = pause
        self.asked: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.active = self.most = self.total = 0
        self.default = self._answer

    def record(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, connection: int) -> Seen:
        """Note a request without keeping it."""
        self.total += 1
        return Seen(self.total, method, path, headers, body, time.monotonic(), connection)

    async def _answer(self, x: Exchange) -> None:
        messages = x.body["messages"]
        prompt = json.loads(_text(messages[0]))
        name = str(prompt["id"])
        self.asked[name] += 1
        await self._linger()
        rng = random.Random(f"{self.seed} {name} {self.asked[name]}")
        given = "".join(_text(each) for each in messages if each["role"] == "assistant")
        rest = prompt["say"].removeprefix(given)
        say = {"text": _pieces(rng, rest)}
        fault = rng.choice(list(FAULTS)) if rng.random() < self.share else "none"
        self.met[fault] += 1
        await (ok(**say) if fault == "none" else FAULTS[fault](rng, say))(x)

    async def _linger(self) -> None:
        """Keep the request waiting; nobody can take it for answered yet."""
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            if self.barrier:
                await self._wait_for_all()
            if self.pause:
                await asyncio.sleep(self.pause)
        finally:
            self.active -= 1

    async def _wait_for_all(self) -> None:
        if self.active >= self.barrier:
            self.barrier = 0
            await self.gate.release(None)
        else:
            await self.gate.hold()

    def report(self) -> str:
        """The numbers as JSON, taken between two turns of the server's loop."""

        async def take() -> str:
            numbers = {"open": self.connections.open, "most": self.most, "requests": self.total}
            return json.dumps(numbers | {"asked": self.asked, "faults": self.met})

        return asyncio.run_coroutine_threadsafe(take(), self._loop).result()


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--barrier", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    given = parser.parse_args()
    with ChaosServer(given.seed, given.faults, given.barrier, given.pause) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(server.report(), flush=True)


if __name__ == "__main__":
    main()
