"""
The history of a conversation, as the families read it that take it in turns: texts, kept payloads, calls and results.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError

__all__ = ["Turn", "check_pairs", "free_id", "join_neighbours", "payload_of", "plain_turns", "replayed"]
__all__ += ["text_of"]

Block = dict[str, Any]


class Turn(Protocol):
    """
    What one side says.

    Attributes:
        results: results of calls, which come before ``blocks``.
        calls: the ids that are sent of the calls it makes -> those of the caller.
        answers: the ids of the calls that it answers.
    """

    role: str
    results: list[Block]
    blocks: list[Block]
    calls: dict[str, str]
    answers: list[str]


_T = TypeVar("_T", bound=Turn)


def text_of(content: Any) -> str:
    """The text of a content of the chat format, its text parts joined."""
    if isinstance(content, str):
        return content
    return "".join(
        part if isinstance(part, str) else part.get("text") or ""
        for part in content or ()
        if isinstance(part, str) or part.get("type") == "text"
    )


def plain_turns(messages: Sequence[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]] | None:
    """
    The hot path: the texts of the system prompt, and the messages after it where they are texts in turn, the user's
    first and last. None when it is not that.
    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    expected = "user"
    for message in messages:
        content = message.get("content")
        if len(message) != 2 or content.__class__ is not str or not content or content.isspace():
            return None
        role = message["role"]
        if role == expected:
            turns.append(message)
            expected = "assistant" if role == "user" else "user"
        elif not turns and role in ("system", "developer"):
            system.append(content)
        else:
            return None
    return None if expected == "user" else (system, turns)


def payload_of(message: dict[str, Any], family: str, request: Request) -> dict[str, Any]:
    """The opaque part of a message that this provider's model made in this family; {} for that of any other."""
    opaque = message.get("opaque")
    if not isinstance(opaque, dict) or opaque.get("family") != family:
        return {}
    if opaque.get("provider") != request.provider or opaque.get("model") != request.model:
        return {}
    return opaque


def replayed(
    message: dict[str, Any],
    payload: list[Block],
    *,
    ordinary: Callable[[Block], bool],
    calls: Callable[[list[Block]], list[Any]],
    said: Callable[[list[Block]], str],
) -> tuple[list[Block], bool]:
    """
    The blocks to give back for an assistant message, and whether they are the whole turn.

    A whole turn counts only while it still says what the message says; of an edited message only the blocks before the
    edit are kept, those that lead the turn.

    Args:
        payload: the blocks that were kept.
        ordinary: whether the message itself says what a block says.
        calls: the ids of the caller's calls among blocks.
        said: the text of blocks.
    """
    leading = list(itertools.takewhile(lambda block: not ordinary(block), payload))
    if len(leading) == len(payload):
        return leading, False
    given = [call.get("id") for call in message.get("tool_calls") or ()]
    if given == calls(payload) and text_of(message.get("content")) == said(payload):
        return list(payload), True
    return leading, False


def free_id(wanted: str, base: str, used: Collection[str], count: int) -> str:
    """An id that was not used yet: some servers number the calls of each turn from zero."""
    while wanted in used:
        wanted = f"{base}_{count}"
        count += 1
    return wanted


def join_neighbours(turns: Sequence[_T], ends: Callable[[Block], bool]) -> list[_T]:
    """The turns without blocks that may not end one; a turn of nothing else goes, and its neighbours meet."""
    kept: list[_T] = []
    for turn in turns:
        while turn.blocks and ends(turn.blocks[-1]):
            turn.blocks.pop()
        if kept and kept[-1].role == turn.role:
            kept[-1].results += turn.results
            kept[-1].blocks += turn.blocks
        elif turn.blocks or turn.results:
            kept.append(turn)
    return kept


def check_pairs(turns: Sequence[Turn], who: str) -> None:
    """
    Hold every turn to answering the calls of the one before it, each once; system messages between them do not count.

    Raises:
        InvalidRequestError: a call without its result, or a result without its call.
    """
    before: dict[str, str] = {}
    for turn in turns:
        if turn.role == "system":
            continue
        for call_id, given in before.items():
            _check_answered(given or call_id, turn.answers.count(call_id), who)
        stray = next((answer for answer in turn.answers if answer not in before), None)
        if stray is not None:
            raise InvalidRequestError(
                f"{who}: tool result {stray!r} answers no tool call of the turn before it; put it right after that turn"
            )
        before = turn.calls
    for call_id, given in before.items():
        _check_answered(given or call_id, 0, who)


def _check_answered(call_id: str, results: int, who: str) -> None:
    if results != 1:
        raise InvalidRequestError(
            f"{who}: tool call {call_id!r} has {results or 'no'} results; give one message with role 'tool' for each"
            " call"
        )
