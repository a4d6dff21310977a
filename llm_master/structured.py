"""
Answers in the shape of a type: what is asked for, what came, and asking again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.errors import InvalidRequestError, StructuredOutputError
from llm_master.functions import definitions
from llm_master.redaction import shown
from llm_master.schemas import Wanted, wanted_of

if TYPE_CHECKING:
    from llm_master.classes import LLMResponse

__all__ = ["correction", "fulfil", "shaped"]


def shaped(params: dict[str, Any]) -> tuple[dict[str, Any], Wanted | None]:
    """
    The parameters with functions and types in the chat format's own form, and what the answer must be.

    Raises:
        InvalidRequestError: a function or a type has no schema.
    """
    found = dict(params)
    if "tools" in found:
        found["tools"] = definitions(found["tools"])
    given = found.get("response_format")
    try:
        wanted = wanted_of(given) if given is not None else None
    except (TypeError, AttributeError) as error:
        raise InvalidRequestError(
            f"response_format={shown(given)} cannot be read as a type, a schema or a format of the chat ({error});"
            " correct it"
        ) from error
    if wanted is not None:
        found["response_format"] = wanted.response_format
    return found, wanted


def fulfil(response: LLMResponse, wanted: Wanted, *, lenient: bool = False) -> LLMResponse:
    """
    Put the value of an answer into ``response.parsed``; an answer that calls tools has none.

    Args:
        lenient: note what does not fit instead of raising.

    Raises:
        StructuredOutputError: the answer is no JSON, or not of the wanted type.
    """
    if response.tool_calls and not response.content:
        return response
    try:
        response.parsed = wanted.parse(response.content)
    except ValueError as error:
        why = " ".join(str(error).split())[:500]
        if lenient:
            response.notes = (*response.notes, f"the answer does not fit its schema: {why}")
            return response
        hint = {
            "length": "it was cut off: raise max_tokens",
            "refusal": "the model refused",
            "content_filter": "it was filtered",
        }.get(response.finish_reason or "", "set repairs= to ask again, or simplify the schema")
        raise StructuredOutputError(
            f"{response.provider}/{response.model} gave an answer that does not fit response_format ({why}); {hint}",
            response=response,
        ) from error
    return response


def correction(error: StructuredOutputError) -> list[dict[str, Any]]:
    """The turns that show a model its answer and what is wrong with it."""
    why = str(error.__cause__ or error)[:2000]
    return [
        error.response.message,
        {
            "role": "user",
            "content": f"That does not fit the required JSON schema: {why}\n\nAnswer with the corrected JSON alone.",
        },
    ]
