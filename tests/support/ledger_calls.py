"""
Calls that are written into a ledger, and its rows as they stand in the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from llm_master import LLMConfig, QueryLLM, RetryPolicy
from llm_master.policy.limits import MemoryLimiter
from support.fault_server import FaultServer

__all__ = ["HI", "SECRET", "VERDICT", "WAV", "client", "rows", "run"]

#: What must not be in a ledger that was not asked for contents.
SECRET = "swordfish"
HI = f"Hi, my password is {SECRET}"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
#: The body of a moderation's answer.
VERDICT = {"id": "m", "model": "omni", "results": [{"flagged": False, "categories": {}, "category_scores": {}}]}


def client(server: FaultServer, ledger: Any, **options: Any) -> QueryLLM:
    """A client of one try a call, whose OpenAI and Voyage are the server."""
    keys = {"openai_api_key": "sk-ledger-0123456789", "voyage_api_key": "pa-ledger-0123456789"}
    config = LLMConfig(**keys, base_urls=dict.fromkeys(("openai", "voyage"), f"{server.url}/v1"))  # type: ignore[arg-type]  # attributes of keys
    retry = RetryPolicy(max_attempts=1, base_delay=0.001)
    return QueryLLM(config, retry=retry, limiter=MemoryLimiter(), ledger=ledger, **options)


def rows(path: Path, table: str = "calls") -> list[dict[str, Any]]:
    """The rows of a table by their columns."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def run(work: Awaitable[Any]) -> Any:
    """Run to the end, in 30 seconds at most."""

    async def bounded() -> Any:
        return await asyncio.wait_for(work, 30)

    return asyncio.run(bounded())
