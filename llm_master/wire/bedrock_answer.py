"""
An answer of Converse, whole or streamed, as an ``LLMResponse``.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from llm_master.classes import Image, LLMResponse, Request, ToolCall, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ProviderError
from llm_master.wire.bedrock_blocks import SERVER_TOOL
from llm_master.wire.bedrock_draft import SCHEMA_TOOL
from llm_master.wire.bedrock_opaque import opaque_of

__all__ = ["End", "WireUsage", "failure", "respond"]

Block = dict[str, Any]

# stopReason -> ours; botocore 1.44.5, read 2026-11-21.
_FINISH: dict[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "model_context_window_exceeded": "context_window",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
    "null": "error",
}
# The status that an exception has outside a stream.
_STATUS: dict[str, int] = {
    "internalserverexception": 500,
    "modelstreamerrorexception": 424,
    "modelerrorexception": 424,
    "modeltimeoutexception": 408,
    "modelnotreadyexception": 429,
    "validationexception": 400,
    "throttlingexception": 429,
    "serviceunavailableexception": 503,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "servicequotaexceededexception": 400,
}
_BROKE_OFF = "modelstreamerrorexception"


class _CacheDetail(msgspec.Struct, gc=False):
    ttl: str = ""
    inputTokens: int = 0  # noqa: N815  # the wire's name


class WireUsage(msgspec.Struct, rename="camel"):
    """The usage object; ``input_tokens`` is the plain part only, without cache reads and writes."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None

    def normalised(self) -> Usage:
        """Tokens as all families count them."""
        details = self.cache_details or ()
        written = max(self.cache_write_input_tokens or 0, sum(max(each.inputTokens, 0) for each in details))
        read = max(self.cache_read_input_tokens or 0, 0)
        return Usage(
            input_tokens=max(self.input_tokens or 0, 0) + read + written,
            output_tokens=max(self.output_tokens or 0, 0),
            cached_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=sum(max(each.inputTokens, 0) for each in details if each.ttl == "1h"),
        )


class _Tier(msgspec.Struct):
    type: str | None = None


class End(msgspec.Struct, rename="camel"):
    """What stands around an answer's message: at the top of a whole answer, in the last events of a stream."""

    stop_reason: str | None = None
    usage: WireUsage | None = None
    service_tier: _Tier | None = None
    trace: Any = None

    @property
    def invoked(self) -> str | None:
        """The model that a prompt router chose, None where there was none."""
        router = self.trace.get("promptRouter") if isinstance(self.trace, dict) else None
        found = router.get("invokedModelId") if isinstance(router, dict) else None
        return found if isinstance(found, str) else None


class _Gathered:
    """What the blocks of an answer say, by kind."""

    __slots__ = ("audio", "calls", "citations", "images", "notes", "structured", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.citations: list[Any] = []
        self.images: list[Image] = []
        self.audio: bytes | None = None
        self.structured: str | None = None
        self.notes: list[str] = []

    def take(self, block: Block, *, schema: bool) -> None:
        if "text" in block:
            self.texts.append(block["text"] or "")
        elif "toolUse" in block:
            self._call(block["toolUse"], schema=schema)
        elif "reasoningContent" in block:
            said = (block["reasoningContent"].get("reasoningText") or {}).get("text")
            if said:
                self.thoughts.append(said)
        elif "citationsContent" in block:
            cited = block["citationsContent"]
            self.texts.extend(part.get("text") or "" for part in cited.get("content") or ())
            self.citations.extend(cited.get("citations") or ())
        elif "image" in block:
            self._image(block["image"])
        elif "audio" in block:
            self.audio = _bytes_of(block["audio"].get("source"))

    def _call(self, call: dict[str, Any], *, schema: bool) -> None:
        given = call.get("input", {})
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        if schema and call.get("name") == SCHEMA_TOOL:
            self.structured = arguments
        elif call.get("type") != SERVER_TOOL:
            self.calls.append(ToolCall(call.get("toolUseId") or "", call.get("name") or "", raw_arguments=arguments))

    def _image(self, image: dict[str, Any]) -> None:
        form = image.get("format")
        data = _bytes_of(image.get("source"))
        if data is None:
            why = (image.get("error") or {}).get("message") or "no bytes"
            self.notes.append(f"an image was left out: {why}"[:200])
            return
        self.images.append(Image(data=data, mime_type=f"image/{form}" if form else None))

    @property
    def content(self) -> str:
        """The answer's text."""
        if self.structured is not None:
            return self.structured
        return self.texts[0] if len(self.texts) == 1 else "".join(self.texts)


def _bytes_of(source: Any) -> bytes | None:
    given = source.get("bytes") if isinstance(source, dict) else None
    try:
        return (binascii.a2b_base64(given) or None) if given else None
    except (ValueError, TypeError):
        return None


def failure(
    code: str, body: Any, request: Request, rules: Mapping[str, str] | None, *, request_id: str | None = None
) -> ProviderError:
    """The error for an exception that came in a stream, typed by its name as if it had come with its own status."""
    said = body if isinstance(body, dict) else {}
    status = _STATUS.get(code.lower(), 500)
    original = said.get("originalStatusCode")
    if isinstance(original, int) and 400 <= original <= 599:
        status = original
    elif code.lower() == _BROKE_OFF:
        # Its own 424 would say that the request is at fault.
        rules = {code: "server", **(rules or {})}
    return error_from_object(
        {
            "message": said.get("message") or said.get("originalMessage") or f"the stream ended with {code}",
            "code": code,
            "status": str(status),
        },
        provider=request.provider,
        model=request.model,
        rules=rules,
        request_id=request_id,
    )


def respond(
    request: Request,
    blocks: list[Block],
    end: End,
    *,
    schema: bool,
    notes: Iterable[str] = (),
    raw_body: Any = None,
) -> LLMResponse:
    """
    The response.

    Args:
        blocks: the content of the message; arguments of a call that broke are their text.
        end: its ``stop_reason`` is None where the answer has no end, and so no finish reason.
        schema: whether ``SCHEMA_TOOL`` was given.
    """
    gathered = _Gathered()
    for block in blocks:
        gathered.take(block, schema=schema)
    reason, told = end.stop_reason, [*notes, *gathered.notes]
    finish = _FINISH.get(reason) if reason is not None else None
    if finish is None and reason is not None:
        finish = "stop"
        told.append(f"unknown stopReason {reason[:80]!r}")
    if gathered.calls and reason == "end_turn":
        finish = "tool_calls"
    elif finish == "tool_calls" and not gathered.calls:
        finish = "stop"
    own = [block for block in blocks if not (schema and (block.get("toolUse") or {}).get("name") == SCHEMA_TOOL)]
    return LLMResponse(
        content=gathered.content,
        model_name=request.model,
        usage=(end.usage or WireUsage()).normalised(),
        finish_reason=finish,
        model=end.invoked,
        provider=request.provider,
        tool_calls=gathered.calls,
        reasoning="\n\n".join(gathered.thoughts) or None,
        citations=gathered.citations,
        images=gathered.images,
        audio_data=gathered.audio,
        dropped=request.dropped,
        notes=tuple(told),
        opaque=opaque_of(own, request),
        service_tier=end.service_tier.type if end.service_tier is not None else None,
        raw_body=raw_body,
    )
