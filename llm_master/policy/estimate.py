"""
How many tokens a call may take, told from its messages and parameters alone: what a limit reserves before it is sent.

Text is weighed without a tokenizer: 0.3 tokens for an ASCII letter, space or line break, 0.6 for any other ASCII
character (one to three digits are a token), and 1.0, 1.4 or 1.8 for a character of two, three or four bytes of UTF-8
(Cyrillic, Greek; CJK, Devanagari, Thai; emoji). Beside two tokenizers of OpenAI, one of Anthropic and one of DeepSeek
that is 1.2 to 1.5 times the count for English prose and code and 1.1 to 1.3 times for JSON and tables of numbers; other
scripts are 0.7 to 1.8 times the count of older tokenizers and 1.1 to 4.7 times that of newer ones. Hashes, UUIDs and
base64 inside of a text come out too low, by a half at most.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["DEFAULT_OUTPUT", "IMAGE", "estimate_input", "estimate_output", "estimate_tokens", "most_output"]

#: Output tokens of a call that sets no maximum of its own.
DEFAULT_OUTPUT = 1024

#: Tokens of an image, whatever its size: about what 1.2 megapixels take (600 to 1,600 in most families).
IMAGE = 1600

# Tokens of a file at least, and base64 characters a token beyond that: a scanned page of 170 kB takes about 2,300.
_FILE, _FILE_CHARS = 2000, 100
# Base64 characters of sound a token: 32 tokens a second, at 32 kB/s uncompressed (16 kHz) or 48 kbit/s compressed.
_SOUND_CHARS = {"wav": 1300, "pcm16": 1300}
_COMPRESSED_CHARS = 250
# A family's own words about tools stand before them: 346 tokens with the Messages API.
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing
_TOOLS = 350
# What a schema counts that is no JSON yet, such as a class.
_UNREADABLE = 300

# From here on in tenths of a token, as whole numbers.
_PER_REQUEST = _PER_MESSAGE = 50
_PER_ENTRY = 20
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \n"

_IMAGES = frozenset(("image_url", "input_image", "image"))
_SOUNDS = frozenset(("input_audio", "audio"))
_FILES = frozenset(("file", "input_file", "document", "video_url", "input_video", "video"))
_MEDIA = _IMAGES | _SOUNDS | _FILES
# Fields that no model reads, or that the flat figure of a message holds.
_SILENT = frozenset(("role", "type", "cache_control", "signature", "encrypted_content"))
# A structure that runs in a circle ends here.
_MOST_NODES = 100_000

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SPELLINGS = (*_LIMITS, "maxOutputTokens", "maxTokens")
_SCHEMAS = ("tools", "functions", "response_format")


def estimate_tokens(messages: Any, params: dict[str, Any], *, room: int | None = None) -> int:
    """
    The input's estimate and the most output there can be: what a call reserves under tokens-per-minute limits.

    The output is ``max_tokens`` (or ``max_completion_tokens``, ``max_output_tokens``) times ``n``. A thinking budget
    below that is a part of it, a larger one comes on top. Without a maximum it is ``DEFAULT_OUTPUT``, but no more than
    ``room`` leaves. The estimate is on the high side: a call that may well fit into ``room`` never gets more than that.
    Values that are no counts are ignored; nothing raises.

    Args:
        messages: normalised, or anything.
        params: of the call; ``tools`` and ``response_format`` count as input.
        room: tokens of the tightest limit that applies, None for no limit.
    """
    tokens = estimate_input(messages, params)
    answers, output = 1, 0
    if params:
        answers = _count(params.get("n")) or 1
        output = _most_output(params) * answers
    if not isinstance(room, int) or isinstance(room, bool) or room < 0:
        return tokens + (output or DEFAULT_OUTPUT * answers)
    if not output:
        output = min(DEFAULT_OUTPUT * answers, max(0, room - tokens))
    if tokens + output > room >= tokens // 2 + output:
        return room
    return tokens + output


def estimate_input(messages: Any, params: dict[str, Any]) -> int:
    """Tokens of the messages, the tools and the answer's schema; media count flat, their data is no text."""
    tenths = _PER_REQUEST
    for message in messages if isinstance(messages, (list, tuple)) else ():
        tenths += _PER_MESSAGE
        # The usual message is weighed here: a call of a function costs as much as the weighing.
        if message.__class__ is dict and len(message) == 2 and (text := message.get("content")).__class__ is str:
            data = text.encode("utf-8", "surrogatepass")
            size = len(data)
            tenths += size + 3 * len(data.translate(None, _PLAIN)) + 2 * len(text)
        else:
            tenths += _walked(message)
    if params:
        for name in _SCHEMAS:
            if value := params.get(name):
                tenths += _schema(value) + (0 if name == "response_format" else 10 * _TOOLS)
    return -(-tenths // 10)


def estimate_output(text: str) -> int:
    """Tokens of an answer, or of the part of it that came before it was cancelled; 0 for none."""
    return -(-_weight(text) // 10) if isinstance(text, str) else 0


def _weight(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    # Three for each byte, three more for what is not plain, two off for each byte after a character's first.
    return len(data) + 3 * len(data.translate(None, _PLAIN)) + 2 * len(text)


def _count(value: Any) -> int:
    """A whole number above 0; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _most_output(params: dict[str, Any]) -> int:
    """The most tokens of one answer as the parameters have it, 0 when they say nothing."""
    body = params.get("extra_body")
    given = {**params, **body} if isinstance(body, dict) else params
    most = 0
    for name in _LIMITS:
        most = max(most, _count(given.get(name)))
    budget = _count(given.get("thinking_budget"))
    if not budget and isinstance(thinking := given.get("thinking"), dict):
        budget = _count(thinking.get("budget_tokens"))
    return most if budget < most or not budget else budget + (most or DEFAULT_OUTPUT)


def most_output(params: dict[str, Any]) -> int | None:
    """
    The most tokens of all answers that the parameters allow, None when they set no maximum.

    A maximum is looked for in every spelling of the families; of several the largest counts. A thinking budget below it
    is a part of it, a larger one comes on top.
    """
    body = params.get("extra_body")
    given = {**params, **body} if isinstance(body, dict) else params
    places = (given, *(each for each in given.values() if isinstance(each, dict)))
    most = max(_count(place.get(name)) for place in places for name in _SPELLINGS)
    if not most:
        return None
    answers = max(_count(given.get("n")), 1)
    return _most_output({**given, "max_tokens": most, "extra_body": None}) * answers


def _schema(value: Any) -> int:
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return 10 * _UNREADABLE * (len(value) if isinstance(value, (list, tuple)) else 1)
    return _weight(data.decode())


def _walked(root: Any) -> int:
    """The weight of every text in a structure, and the flat figures of the media."""
    tenths = 0
    stack = [root]
    left = _MOST_NODES
    while stack and left > len(stack):
        left -= 1
        value = stack.pop()
        if isinstance(value, str):
            if not (value.startswith("data:") and ";base64," in value[:100]):
                tenths += _weight(value)
        elif isinstance(value, dict):
            kind = value.get("type")
            if isinstance(kind, str) and kind in _MEDIA and not _holds_text(value):
                tenths += 10 * _media(value, kind)
            else:
                stack += [each for key, each in value.items() if key not in _SILENT]
                tenths += _PER_ENTRY
        elif isinstance(value, (list, tuple)):
            stack += value
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            tenths += _PER_ENTRY
    return tenths


def _holds_text(part: dict[str, Any]) -> bool:
    # A document of the Messages API may be plain text or a list of blocks.
    source = part.get("source")
    return isinstance(source, dict) and source.get("type") in ("text", "content")


def _media(part: dict[str, Any], kind: str) -> int:
    if kind in _IMAGES:
        return IMAGE
    inner = next((each for each in part.values() if isinstance(each, dict)), part)
    data = max((each for each in inner.values() if isinstance(each, str)), key=len, default="")
    if kind in _SOUNDS and inner.get("url"):
        return _FILE  # nobody knows how long it is
    if kind in _SOUNDS:
        form = inner.get("format")
        chars = _SOUND_CHARS.get(form, _COMPRESSED_CHARS) if isinstance(form, str) else _COMPRESSED_CHARS
        return 1 + len(data) // chars
    # Base64 of a text: three quarters as many characters, of about 0.4 tokens.
    return max(_FILE, len(data) // _FILE_CHARS) if not data.startswith("data:text/") else 1 + len(data) * 3 // 10
