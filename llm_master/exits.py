"""
An answer as the vendors' own types: ``ChatCompletion`` of the ``openai`` package, ``Message`` of ``anthropic``.

Both are made as these packages make them from a server's bytes, so that code written for one of them goes on with an
answer of any provider. What a type has no place for is left out, or stands in the fields that compatible servers use
(``reasoning_content``, ``images``). Nothing here is imported before it is asked for.
"""

from __future__ import annotations

import base64
from typing import Any

__all__ = ["to_anthropic", "to_openai"]

# Ours -> the chat format's; others are the same word in both.
_CHAT_FINISH = {"refusal": "stop", "pause": "stop", "context_window": "length", "error": "stop"}
_CHAT_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")

# Ours -> the Messages API's; https://platform.claude.com/docs/en/api/messages, seen 2026-11-21.
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_window": "model_context_window_exceeded",
}
_MESSAGE_TIERS = ("standard", "priority", "batch")


# -- the chat format -------------------------------------------------------------------------------------------------


def to_openai(response: Any) -> Any:
    """An ``LLMResponse`` as ``openai.types.chat.ChatCompletion``."""
    from openai.types.chat import ChatCompletion

    return ChatCompletion.construct(**_chat_completion(response))


def _chat_completion(response: Any) -> dict[str, Any]:
    raw = response.raw if isinstance(response.raw, dict) else {}
    choices = [each for each in raw.get("choices") or () if isinstance(each, dict)]
    own = next((each for each in choices if each.get("index", 0) == 0), choices[0] if choices else {})
    finish = response.finish_reason or "stop"
    first = {
        "index": 0,
        "message": _chat_message(response, own.get("message")),
        "finish_reason": _CHAT_FINISH.get(finish, finish),
        "logprobs": own.get("logprobs"),
    }
    found = {
        "id": (raw.get("id") if choices else None) or response.request_id or "",
        "object": "chat.completion",
        "created": raw["created"] if choices and isinstance(raw.get("created"), int) else 0,
        "model": response.model or response.model_name,
        # Of several answers the others are as the server sent them.
        "choices": [first, *(each for each in choices if each is not own)],
        "usage": _chat_usage(response.usage, raw.get("usage") if choices else None),
    }
    if response.service_tier in _CHAT_TIERS:
        found["service_tier"] = response.service_tier
    if choices and raw.get("system_fingerprint") is not None:
        found["system_fingerprint"] = raw["system_fingerprint"]
    return found


def _chat_message(response: Any, sent: Any) -> dict[str, Any]:
    sent = sent if isinstance(sent, dict) else {}
    message: dict[str, Any] = {"role": "assistant", "content": response.content or None, "refusal": response.refusal}
    if response.content == "" and sent.get("content") == "":
        message["content"] = ""
    if response.tool_calls:
        message["tool_calls"] = [call.to_dict() for call in response.tool_calls]
    if response.reasoning:
        message["reasoning_content"] = response.reasoning
    annotations = [each for each in response.citations if isinstance(each, dict) and each.get("type") == "url_citation"]
    if annotations:
        message["annotations"] = [_annotation(each) for each in annotations]
    if response.audio_data is not None:
        message["audio"] = _audio(response, sent.get("audio"))
    if response.images:
        message["images"] = [{"type": "image_url", "image_url": {"url": _image_url(each)}} for each in response.images]
    return message


def _annotation(found: dict[str, Any]) -> dict[str, Any]:
    """A citation; the Responses API has its fields one step higher."""
    if "url_citation" in found:
        return found
    return {"type": "url_citation", "url_citation": {key: value for key, value in found.items() if key != "type"}}


def _audio(response: Any, sent: Any) -> dict[str, Any]:
    sent = sent if isinstance(sent, dict) else {}
    return {
        "id": sent.get("id") or "",
        "data": base64.b64encode(response.audio_data).decode(),
        "expires_at": sent.get("expires_at") or 0,
        "transcript": sent.get("transcript") or response.content,
    }


def _image_url(image: Any) -> str:
    if image.data is None:
        return str(image.url)
    return f"data:{image.mime_type or 'image/png'};base64,{base64.b64encode(image.data).decode()}"


def _chat_usage(usage: Any, sent: Any) -> dict[str, Any]:
    predicted = (sent.get("completion_tokens_details") if isinstance(sent, dict) else None) or {}
    given: dict[str, Any] = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.input_audio_tokens}
    written: dict[str, Any] = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.output_audio_tokens}
    if usage.cache_write_tokens:
        given["cache_write_tokens"] = usage.cache_write_tokens
    if usage.input_image_tokens:
        given["image_tokens"] = usage.input_image_tokens
    for name in ("accepted_prediction_tokens", "rejected_prediction_tokens"):
        if isinstance(predicted, dict) and predicted.get(name) is not None:
            written[name] = predicted[name]
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": given,
        "completion_tokens_details": written,
    }


# -- the Messages API ------------------------------------------------------------------------------------------------


def to_anthropic(response: Any) -> Any:
    """
    An ``LLMResponse`` as ``anthropic.types.Message``.

    An answer of the Messages API is the message that the server sent. For others the reasoning becomes a thinking block
    with an empty signature, which no server takes back; images and audio have no block and are left out.

    Raises:
        ToolArgumentsError: the arguments of a tool call are no JSON object, and a block holds nothing else.
    """
    from anthropic.types import Message

    raw = response.raw if isinstance(response.raw, dict) and response.raw.get("type") == "message" else {}
    blocks = _sent_blocks(raw.get("content"), response)
    found: dict[str, Any] = dict(raw) if blocks is not None else {"id": response.request_id or ""}
    found |= {"type": "message", "role": "assistant", "content": _blocks(response) if blocks is None else blocks}
    if blocks is None:
        found |= {
            "model": response.model or response.model_name,
            "stop_reason": _STOP_REASONS.get(response.finish_reason or ""),
            "stop_sequence": None,
            "usage": _message_usage(response),
        }
    return Message.construct(**found)


def _sent_blocks(content: Any, response: Any) -> list[Any] | None:
    """The blocks that a server of the Messages API sent, None when they are not what the response says now."""
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        return None
    texts = "".join(block.get("text") or "" for block in content if block.get("type") == "text")
    calls = [block.get("id") for block in content if block.get("type") == "tool_use"]
    if texts != response.content or calls != [call.id for call in response.tool_calls]:
        return None
    return content


def _blocks(response: Any) -> list[dict[str, Any]]:
    opaque = response.opaque if isinstance(response.opaque, dict) else {}
    payload = opaque.get("payload") if opaque.get("family") == "anthropic_messages" else None
    kept = [dict(block) for block in payload or () if isinstance(block, dict)]
    # The payload is the whole turn, or the blocks that lead it.
    if kept and _sent_blocks(kept, response) is not None:
        return kept
    leading = [block for block in kept if block.get("type") not in ("text", "tool_use")]
    if not leading and response.reasoning:
        leading = [{"type": "thinking", "thinking": response.reasoning, "signature": ""}]
    text = response.content or (response.refusal if not response.tool_calls else None)
    texts = [{"type": "text", "text": text, "citations": None}] if text else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in response.tool_calls
    ]
    return [*leading, *texts, *calls]


def _message_usage(response: Any) -> dict[str, Any]:
    usage = response.usage
    found: dict[str, Any] = {
        # Here the input is what was neither read from a cache nor written to one.
        "input_tokens": max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }
    if usage.cache_write_tokens:
        long = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
        found["cache_creation"] = {
            "ephemeral_1h_input_tokens": long,
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - long,
        }
    if usage.reasoning_tokens:
        found["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if usage.web_searches:
        found["server_tool_use"] = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    if response.service_tier in _MESSAGE_TIERS:
        found["service_tier"] = response.service_tier
    return found
