"""
What a caller gives, made ready for a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.errors import InvalidRequestError, LLMError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_master.policy.retry import RetryPolicy

__all__ = ["FileNeededError", "fallback_params", "later", "turns_of", "watching", "with_attempts", "with_files"]


class FileNeededError(LLMError):
    """Raised inside the event loop when the messages name a file."""


def later(path: str) -> bytes:
    """Stop reading the messages: a file is named in them."""
    raise FileNeededError(path)


async def turns_of(engine: Any, messages: Any, prompt: str | None) -> list[dict[str, Any]]:
    """The messages as ``query`` takes them, with the files that they name."""
    try:
        found: list[dict[str, Any]] = engine.normalise(messages, prompt=prompt, read_file=later)
    except FileNeededError:
        return await with_files(engine, messages, prompt)
    return found


async def with_files(engine: Any, messages: Any, prompt: str | None) -> list[dict[str, Any]]:
    """The messages with the files that they name, read outside the event loop: a disk may block."""
    import asyncio
    from pathlib import Path

    from llm_master.file_input import MAX_FILE_BYTES

    def read(path: str) -> bytes:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)  # one byte more shows that it is too large

    found: list[dict[str, Any]] = await asyncio.to_thread(engine.normalise, messages, prompt=prompt, read_file=read)
    return found


def watching(telemetry: Any) -> list[Any]:
    """The listeners that ``telemetry=`` means; raises ConfigurationError as ``telemetry.listeners_of``."""
    if telemetry is None:
        return []
    from llm_master.telemetry import listeners_of

    return listeners_of(telemetry)


def with_attempts(policy: RetryPolicy, attempts: int) -> RetryPolicy:
    """The policy with another number of attempts."""
    import msgspec

    changed: RetryPolicy = msgspec.structs.replace(policy, max_attempts=attempts)
    return changed


def fallback_params(names: list[str], config: Any) -> Iterator[dict[str, Any]]:
    """The parameters of each fallback: nothing unless the caller gave them."""
    if config is None:
        return iter([{} for _ in names])
    if isinstance(config, (list, tuple)):
        if len(config) != len(names):
            raise InvalidRequestError(f"fallback_config holds {len(config)} dicts for {len(names)} fallback models")
        return iter([dict(c or {}) for c in config])
    if not isinstance(config, dict):
        raise InvalidRequestError(f"fallback_config is a {type(config).__name__}; give a dict of parameters")
    if config and set(config) <= set(names) and all(isinstance(c, dict) for c in config.values()):
        return iter([dict(config.get(name, {})) for name in names])
    return iter([dict(config) for _ in names])
