"""
Requests of one API family as tests write them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_master.classes import Request
from llm_master.errors import ResponseError, UnsupportedParameterError

__all__ = ["HI", "TOOL", "Requests", "call", "check_unreadable", "result", "user"]

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
}


def call(id: str, name: str = "now", arguments: Any = "{}") -> dict[str, Any]:
    """A tool call as it stands in an assistant message."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Any = "noon", **fields: Any) -> dict[str, Any]:
    """The message with what a tool gave."""
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


def user(*parts: Any, **fields: Any) -> list[Any]:
    """Messages that are one of the user's, of these parts."""
    return [{"role": "user", "content": list(parts), **fields}]


def check_unreadable(read: Callable[[], Any], provider: str, model: str) -> None:
    """Reading an answer fails with one short line that names provider and model, and may be tried again."""
    with pytest.raises(ResponseError) as caught:
        read()
    text = str(caught.value)
    assert provider in text
    assert repr(model) in text
    assert "\n" not in text
    assert len(text) < 700
    assert caught.value.retryable


class Requests:
    """
    Requests to the row of a provider, encoded by its family.

    Args:
        encode: the family's.
        dialect: the row's; ``body`` and its kin may be given another one.
    """

    def __init__(self, provider: str, encode: Callable[[Request, Any], bytes], dialect: Any) -> None:
        self._provider, self._encode, self._dialect = provider, encode, dialect

    def request(self, model: str, messages: list[Any] | None = None, *, drop: bool = False, **params: Any) -> Request:
        """A request; without messages it says Hi."""
        return Request(self._provider, model, HI if messages is None else messages, params, drop_params=drop)

    def body(
        self, model: str, messages: list[Any] | None = None, *, dialect: Any = None, **params: Any
    ) -> dict[str, Any]:
        """The body that is sent, parsed."""
        sent = self._encode(self.request(model, messages, **params), dialect or self._dialect)
        found: dict[str, Any] = json.loads(sent)
        return found

    def dropping(
        self, model: str, messages: list[Any] | None = None, *, dialect: Any = None, **params: Any
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The body that is sent with ``drop_params``, and what was left out."""
        asked = self.request(model, messages, drop=True, **params)
        return json.loads(self._encode(asked, dialect or self._dialect)), asked.dropped

    def refused(
        self, model: str, parameter: str, messages: list[Any] | None = None, *, dialect: Any = None, **params: Any
    ) -> str:
        """The text of the error that a parameter brings without ``drop_params``."""
        with pytest.raises(UnsupportedParameterError) as caught:
            self.body(model, messages, dialect=dialect, **params)
        assert caught.value.parameter == parameter
        for said in (self._provider, repr(model), "drop_params=True"):
            assert said in str(caught.value)
        return str(caught.value)
