"""
Counts of tokens by the provider's own endpoint, in seven forms.

Sources, read 2026-11-21: the anthropic package 2.11.0, ``types/message_count_tokens_params.py``; the openai package
3.52.0, ``types/responses/input_token_count_params.py``; https://ai.google.dev/api/tokens; the cohere package 7.3.1,
``raw_base_client.py`` (tokenize); llama.cpp ``tools/server/README.md``; vLLM ``entrypoints/openai/protocol.py``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.operations import Operation, read_body, unreadable

__all__ = ["decode", "encode"]

# What the endpoint takes of the body of the family's chat request.
_FIELDS = {
    "anthropic": ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"),
    "responses": ("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"),
    "vertex": ("contents", "systemInstruction", "tools"),
    "vllm": ("model", "messages", "tools"),
}
# Characters that Cohere's endpoint takes.
_MOST_COHERE = 65_536


class _Answer(msgspec.Struct):
    input_tokens: int | None = None
    total: int | None = msgspec.field(name="totalTokens", default=None)
    count: int | None = None
    tokens: list[Any] | None = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(payload: Any, request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """
    The JSON body.

    Args:
        payload: the family's chat body as a dict; the prompt as a text for llama.cpp.

    Raises:
        InvalidRequestError: the text is too long to be counted.
    """
    form = operation.form
    if form == "llamacpp":
        return msgspec.json.encode({"content": payload, "add_special": True, "parse_special": True}), {}
    if form == "cohere":
        text = "\n".join(_texts(payload.get("messages", ())))
        if not 0 < len(text) <= _MOST_COHERE:
            raise InvalidRequestError(
                f"{request.provider} counts texts of 1 to {_MOST_COHERE} characters, not {len(text)}, for"
                f" {request.model!r}; count parts of it"
            )
        return msgspec.json.encode({"model": request.model, "text": text}), {}
    if form == "gemini":
        name = f"models/{request.model.removeprefix('models/')}"
        return msgspec.json.encode({"generateContentRequest": {"model": name, **payload}}), {}
    return msgspec.json.encode({name: payload[name] for name in _FIELDS[form] if payload.get(name) is not None}), {}


def decode(body: bytes, headers: Any, payload: Any, request: Request) -> int:  # noqa: ARG001  # as all
    """
    The number of tokens.

    Raises:
        ResponseError: the answer holds none.
    """
    answer, _ = read_body(_decoder, body, "count", request)
    counts = (answer.input_tokens, answer.total, answer.count, None if answer.tokens is None else len(answer.tokens))
    found = next((count for count in counts if count is not None), None)
    if found is None or found < 0:
        raise unreadable(body, "count", request)
    return found


def _texts(messages: Any) -> list[str]:
    found: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            found.append(content)
        else:
            found += [part["text"] for part in content or () if isinstance(part.get("text"), str)]
    return found
