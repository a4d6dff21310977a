"""
Where the Messages API takes marks of its prompt cache.
"""

from __future__ import annotations

from llm_master.rows import MessagesDialect

__all__ = ["cache_places"]


def cache_places(dialect: MessagesDialect, model: str) -> tuple[bool, bool]:  # noqa: ARG001  # as the other families
    """Whether a model takes marks in messages, and in tools: all do."""
    return True, True
