"""
Messages on their way out: what one server wants said differently is changed in copies, never in the caller's dicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.media import check_data, check_url, is_address
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_closed import closed, flat_part, thinking_parts
from llm_master.wire.openai_chat_plan import Plan

__all__ = ["THINKING_PART", "encode_messages"]

#: The value of ``replay_reasoning`` that gives reasoning back as a ``thinking`` part of the content.
THINKING_PART = "thinking_part"

_SYSTEM = ("system", "developer")
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
# Type of a part -> the kind of input, and the field that holds it.
_MEDIA = {
    "image_url": ("image", "image_url"),
    "file": ("file", "file"),
    "input_audio": ("audio", "input_audio"),
    "video_url": ("video", "video_url"),
}
_NINE = re.compile(r"[A-Za-z0-9]{9}\Z")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def encode_messages(
    messages: list[dict[str, Any]], request: Request, plan: Plan, left_out: list[str]
) -> list[dict[str, Any]]:
    """
    The messages as the server takes them; plain ones stay the same objects.

    Args:
        left_out: the list to which fields are added that the server cannot take.
    """
    roles = plan.roles
    for message in messages:
        if len(message) != 2 or message.get("role") not in roles or message.get("content").__class__ is not str:
            break
    else:
        return messages
    encoder = _Encoder(request, plan.dialect, left_out)
    if plan.dialect.single_system:
        messages = _join_system(messages)
    return encoder.encode(messages)


def _join_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All system messages as one leading message."""
    system = [message for message in messages if message.get("role") in _SYSTEM]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return messages
    joined: dict[str, Any] = {"role": "system"}
    contents = []
    for message in system:
        content = message.get("content")
        for field, value in message.items():
            if field == "name":
                content = _named(str(value), content)
            elif field not in ("role", "content", "opaque"):
                if joined.get(field, value) != value:
                    raise InvalidRequestError(
                        f"this server takes one system message, but yours differ in {field!r}; give it once"
                    )
                joined[field] = value
        if content:
            contents.append(content)
    if all(isinstance(content, str) for content in contents):
        joined["content"] = "\n\n".join(contents)
    else:
        joined["content"] = [part for content in contents for part in _as_parts(content)]
    return [joined, *(message for message in messages if message.get("role") not in _SYSTEM)]


def _as_parts(content: Any) -> list[Any]:
    return list(content) if isinstance(content, list) else [{"type": "text", "text": content}]


def _named(name: str, content: Any) -> Any:
    """Content that says who speaks, for servers without ``name``."""
    if isinstance(content, list):
        for at, part in enumerate(content):
            if isinstance(part, Mapping) and part.get("type") == "text":
                return [*content[:at], {**part, "text": f"{name}: {part.get('text')}"}, *content[at + 1 :]]
        return [{"type": "text", "text": f"{name}:"}, *content]
    return f"{name}: {content}" if content else content


class _Encoder:
    """Encodes the messages of one request."""

    __slots__ = ("_dialect", "_left_out", "_request")

    def __init__(self, request: Request, dialect: ChatDialect, left_out: list[str]) -> None:
        self._request = request
        self._dialect = dialect
        self._left_out = left_out

    def encode(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        encoded: list[dict[str, Any]] = []
        seen: list[Any] = []  # what the tool messages of one turn show, for the user message after them
        for position, message in enumerate(messages):
            if seen and message.get("role") != "tool":
                encoded.append({"role": "user", "content": seen})
                seen = []
            made = self._message(position, message)
            if made["role"] == "tool" and isinstance(made.get("content"), list):
                made, shown = _part_images(made)
                seen += shown
            encoded.append(made)
        if seen:
            encoded.append({"role": "user", "content": seen})
        return encoded

    def _message(self, position: int, message: dict[str, Any]) -> dict[str, Any]:
        made = dict(message)
        opaque = made.pop("opaque", None)
        role = made.get("role")
        if role == "developer" and not self._dialect.developer_role:
            made["role"] = "system"
        if role == "assistant":
            self._assistant(position, made, opaque)
        elif made.get("content") is None or made.get("content") == []:
            made["content"] = ""
        content = made.get("content")
        if isinstance(content, list):
            for part in content:
                if isinstance(part, Mapping):
                    self._request.show(part.get("type"))
            made["content"] = [self._checked(_part(part)) for part in content]
        if role == "tool":
            made["tool_call_id"] = self._id(made.get("tool_call_id"))
        if not self._dialect.message_name and made.get("name") is not None and role != "function":
            self._name(position, made)
        if self._dialect.flat_parts and isinstance(made.get("content"), list):
            made["content"] = [flat_part(part) for part in made["content"]]
        return self._closed(position, made) if self._dialect.only_fields else made

    def _closed(self, position: int, made: dict[str, Any]) -> dict[str, Any]:
        who = f"{self._request.provider}/{self._request.model}"
        return closed(made, position, self._dialect, self._left_out, who=who)

    def _checked(self, part: Any) -> Any:
        """The part, held against what the server takes and fetches."""
        kind = _MEDIA.get(str(part.get("type"))) if isinstance(part, Mapping) else None
        if kind is None:
            return part
        what, field = kind
        found = part.get(field)
        inner = found if isinstance(found, Mapping) else {}
        url = inner.get("url") or inner.get("data") or inner.get("file_data") or inner.get("file_url")
        if not isinstance(url, str):
            return part
        who = f"{self._request.provider}/{self._request.model}"
        media = self._dialect.media
        if what == "audio" and not inner.get("url"):
            form = f"audio/{inner.get('format')}"
            check_data(media, "openai_chat", what, form, str(inner.get("data")), who=who)
        elif is_address(url):
            check_url(media, "openai_chat", what, url, who=who)
        elif url[:5].lower() == "data:":
            head, _, data = url[5:].partition(",")
            check_data(media, "openai_chat", what, head.partition(";")[0].strip().lower(), data, who=who)
        return part

    def _name(self, position: int, made: dict[str, Any]) -> None:
        name = str(made.pop("name"))
        content = made.get("content")
        if made["role"] == "tool":
            # The call that the result answers has the name already.
            return
        if content:
            made["content"] = _named(name, content)
        else:
            self._left_out.append(f"messages[{position}].name")

    def _assistant(self, position: int, made: dict[str, Any], opaque: Any) -> None:
        dialect = self._dialect
        for field in _REASONING:
            if field in made and field not in (dialect.replay_reasoning, dialect.replay_details):
                value = made.pop(field)
                if value:
                    self._left_out.append(f"messages[{position}].{field}")
        made.update(self._replayed(opaque))
        calls = made.get("tool_calls")
        if calls:
            made["tool_calls"] = [self._call(call) for call in calls]
        elif calls is not None:
            del made["tool_calls"]
        if made.get("content") is None or made.get("content") == []:
            says_otherwise = any(made.get(field) for field in ("tool_calls", "function_call", "refusal", "audio"))
            made["content"] = None if says_otherwise else ""
        thinking = made.pop(THINKING_PART, None)
        if thinking:
            content = made["content"]
            made["content"] = [*thinking_parts(thinking), *(_as_parts(content) if content else [])]

    def _replayed(self, opaque: Any) -> Iterator[tuple[str, Any]]:
        """The fields of an opaque payload that this server may see again."""
        if not isinstance(opaque, Mapping) or opaque.get("family") != "openai_chat":
            return
        payload = opaque.get("payload")
        if opaque.get("provider") != self._request.provider or not isinstance(payload, Mapping):
            return
        dialect = self._dialect
        if dialect.replay_reasoning is not None and dialect.replay_reasoning in payload:
            yield dialect.replay_reasoning, payload[dialect.replay_reasoning]
        details = dialect.replay_details
        if details is not None and details in payload and self._same_vendor(opaque.get("model")):
            yield details, payload[details]

    def _same_vendor(self, model: Any) -> bool:
        """Signatures are bound to the model's maker; of ``vendor/model`` the vendor must be the same."""
        return str(model).partition("/")[0] == self._request.model.partition("/")[0]

    def _call(self, call: Any) -> Any:
        if not isinstance(call, Mapping):
            return call
        made = {"type": "function", **call}
        if "id" in made:
            made["id"] = self._id(made["id"])
        function = made.get("function")
        if made["type"] == "custom" and "custom" in made:
            made.pop("function", None)
        elif isinstance(function, Mapping):
            arguments = function.get("arguments")
            if not arguments or not isinstance(arguments, str):
                # Some servers parse the text, and an empty one is not JSON.
                made["function"] = {**function, "arguments": msgspec.json.encode(arguments or {}).decode()}
        return made

    def _id(self, id: Any) -> Any:
        if self._dialect.tool_ids == "any" or not isinstance(id, str) or _NINE.match(id):
            return id
        from hashlib import blake2b

        number = int.from_bytes(blake2b(id.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        letters = []
        for _ in range(9):
            number, rest = divmod(number, len(_DIGITS))
            letters.append(_DIGITS[rest])
        return "".join(letters)


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") == "image_url" and isinstance(part.get("image_url"), str):
        kept = {field: value for field, value in part.items() if field != "detail"}
        detail = {"detail": part["detail"]} if "detail" in part else {}
        return {**kept, "image_url": {"url": part["image_url"], **detail}}
    return part


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and part.get("type") == "text")


def _part_images(made: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A tool message with its text parts only, and the other parts with a word on where they come from."""
    content = made["content"]
    texts = [part for part in content if _is_text(part)]
    if len(texts) == len(content):
        return made, []
    others = [part for part in content if not _is_text(part)]
    head = {"type": "text", "text": f"Returned by tool call {made.get('tool_call_id')}:"}
    return {**made, "content": texts or "The result is in the next user message."}, [head, *others]
