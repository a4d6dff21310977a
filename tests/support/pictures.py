"""
Pictures of one pixel, and a client whose services of images are one fault server that is asked every millisecond.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

from llm_master import LLMConfig, QueryLLM, RetryPolicy, UnifiedProvider
from llm_master.policy.limits import MemoryLimiter
from support.fault_server import FaultServer

__all__ = ["DATA_URI", "JPEG", "KEY", "PNG", "PNG64", "client", "jobs", "quick"]

PNG64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PNG = base64.b64decode(PNG64)
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 16
DATA_URI = f"data:image/png;base64,{PNG64}"
KEY = "key-of-pictures-0123456789"

_ROWS = ("openai", "recraft", "xai", "together", "deepinfra", "bfl", "replicate", "fal", "gemini")


@contextlib.contextmanager
def quick(**fields: Any) -> Iterator[None]:
    """Services are asked after a job every millisecond; ``fields`` replace others of their dialect."""
    table = UnifiedProvider.PROVIDER_CONFIGS
    saved = {name: table[name] for name in ("bfl", "replicate", "fal")}
    for name, row in saved.items():
        polling = {**row["polling"], "interval": 0.001, "longest": 0.002, **fields}
        table[name] = {**row, "polling": polling}
    try:
        yield
    finally:
        table.update(saved)


def client(server: FaultServer, **options: Any) -> QueryLLM:
    """A client each of whose providers is a path of the server: ``/openai/v1`` and so on."""
    keys: dict[str, Any] = {f"{name}_api_key": KEY for name in _ROWS}
    urls = {name: f"{server.url}/{name}/v1" for name in _ROWS}
    options.setdefault("retry", RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002))
    return QueryLLM(LLMConfig(base_urls=urls, **keys), limiter=MemoryLimiter(), **options)


def jobs(server: FaultServer) -> list[tuple[str, str]]:
    """Method and path of every request, in order."""
    return [(seen.method, seen.path) for seen in server.requests]
