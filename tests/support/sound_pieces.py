"""
Speech and transcripts in pieces as servers send them: bare bytes in each of HTTP's framings, or events of each vendor.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from support.exchange import Behaviour, Exchange, Framing

__all__ = ["SPEECH", "TRANSCRIPTS", "bare", "events", "speech_events", "transcript_events", "written"]

USED = {"input_tokens": 7, "output_tokens": 40, "total_tokens": 47}
USED_MISTRAL = {"prompt_tokens": 7, "completion_tokens": 40, "total_tokens": 47, "prompt_audio_seconds": 3}
SPEECH = ("openai", "mistral", "together")
TRANSCRIPTS = ("openai", "mistral", "vllm")


def bare(
    pieces: Sequence[bytes],
    *,
    kind: str = "audio/mpeg",
    framing: Framing | str = "chunked",
    after: int | None = None,
    then: Behaviour | None = None,
) -> Behaviour:
    """
    Bytes of a content type.

    Args:
        framing: ``chunked``, ``close`` (the connection's end is the body's) or ``length``.
        after: pieces before ``then``; None: all of them, and ``then`` before the end.
    """

    async def behave(x: Exchange) -> None:
        size: Any = sum(map(len, pieces)) if framing == "length" else framing
        await x.send(x.head(200, [("Content-Type", kind), ("x-request-id", "req-sound")], framing=size))
        for number, piece in enumerate(pieces):
            if then is not None and number == after:
                await then(x)
                if x.over:
                    return
            await x.chunk(piece)
        if then is not None and (after is None or after >= len(pieces)):
            await then(x)
            if x.over:
                return
        await x.end()

    return behave


def events(payloads: Sequence[Any], **fields: Any) -> Behaviour:
    """Server-sent events; ``fields`` are those of ``bare``."""
    parts = [p if isinstance(p, bytes) else written(p) for p in payloads]
    return bare(parts, kind="text/event-stream", **fields)


def written(payload: Any) -> bytes:
    if isinstance(payload, str):
        return f"data: {payload}\n\n".encode()
    # Mistral's package wants the name, OpenAI's passes over it.
    name = f"event: {payload['type']}\n" if payload.get("type") else ""
    return f"{name}data: {json.dumps(payload)}\n\n".encode()


def speech_events(vendor: str, pieces: Sequence[bytes]) -> list[Any]:
    """The events of one vendor for pieces of sound, the last one ends them."""
    texts = [base64.b64encode(piece).decode() for piece in pieces]
    if vendor == "openai":
        done: Any = {"type": "speech.audio.done", "usage": USED}
        return [*({"type": "speech.audio.delta", "audio": text} for text in texts), done]
    if vendor == "mistral":
        done = {"type": "speech.audio.done", "usage": USED_MISTRAL}
        return [*({"type": "speech.audio.delta", "audio_data": text} for text in texts), done]
    kind = "conversation.item.audio_output.delta"
    return [*({"type": kind, "item_id": "tts_1", "delta": text} for text in texts), "[DONE]"]


def transcript_events(vendor: str, texts: Sequence[str]) -> list[Any]:
    """The events of one vendor for pieces of a transcript, the last one ends them."""
    whole = "".join(texts)
    if vendor == "openai":
        done: Any = {"type": "transcript.text.done", "text": whole, "usage": {**USED, "type": "tokens"}}
        return [*({"type": "transcript.text.delta", "delta": text} for text in texts), done]
    if vendor == "mistral":
        head = {"type": "transcription.language", "audio_language": "en"}
        segment = {"type": "transcription.segment", "text": whole, "start": 0.0, "end": 1.5, "speaker_id": "s1"}
        done = {"type": "transcription.done", "model": "voxtral", "text": whole, "usage": USED_MISTRAL}
        done |= {"language": None, "segments": []}
        return [head, *({"type": "transcription.text.delta", "text": text} for text in texts), segment, done]
    chunk = {"id": "t", "object": "transcription.chunk", "created": 1, "model": "w"}
    deltas = [{**chunk, "choices": [{"delta": {"content": text}, "finish_reason": None}]} for text in texts]
    end = {**chunk, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 40}}
    return [*deltas, end, "[DONE]"]
