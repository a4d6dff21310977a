"""
What a caller may give as messages, brought to one form: the chat format's own.

Text is ``{"type": "text", "text"}``, an image ``{"type": "image_url", "image_url": {"url", "detail"?}}`` whose URL is
http(s) or a data URI. Any other part, and every key that is not understood, stays as it is. Nothing given is changed.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llm_master.classes import LLMResponse, ToolCall
from llm_master.errors import InvalidRequestError
from llm_master.file_input import bare_part, typed_audio, typed_file
from llm_master.image_input import MAX_IMAGE_BYTES, SOURCES, Files, image_from_path, image_part, image_url, typed_image
from llm_master.media import is_address, mime_of_name
from llm_master.redaction import shown

__all__ = ["normalise"]

_PLAIN = ("user", "assistant", "system", "developer")
_ROLES = (*_PLAIN, "tool", "function")
_OTHER_WORDS = {"human": "user", "ai": "assistant", "model": "assistant", "bot": "assistant"}
_TEXT_KEYS = ("content", "parts", "text")
_MADE = {
    **dict.fromkeys(("image_url", "input_image", "image"), typed_image),
    **dict.fromkeys(("file", "input_file"), typed_file),
    **dict.fromkeys(("input_audio", "audio"), typed_audio),
}
_IMAGE_KEYS = ("images", "image_paths", "image_details")


def normalise(
    messages: Any,
    *,
    prompt: str | None = None,
    read_file: Callable[[str], bytes] | None = None,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> list[dict[str, Any]]:
    """
    Check messages and bring them to the chat format.

    A list that is in this form already is returned as it is; a message that needs no change stays the same object.

    Args:
        messages: a list of messages (dicts, ``LLMResponse``, or objects with ``model_dump``), or one string.
        prompt: text of one more user message at the end; enough on its own.
        read_file: reads a file whose path was given as an image; without it such a path is an error.
        max_image_bytes: the largest image taken.

    Raises:
        InvalidRequestError: something is missing or malformed; the message says where and what to write instead.
    """
    # The hot path: plain text turns, the great majority of calls.
    if prompt is None and type(messages) is list and messages:
        for message in messages:
            if (
                type(message) is not dict
                or len(message) != 2
                or type(message.get("content")) is not str
                or message.get("role") not in _PLAIN
            ):
                break
        else:
            return messages
    given = _listed(messages)
    if prompt is not None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidRequestError(f"prompt must be a text that is not empty, not {shown(prompt)}")
        given = [*given, {"role": "user", "content": prompt}]
    if not given:
        raise InvalidRequestError("no messages and no prompt; give messages=[{'role': 'user', 'content': ...}]")
    calls: set[str] = set()
    files = Files(read_file, max_image_bytes)
    result = [_message(each, f"messages[{index}]", calls, files) for index, each in enumerate(given)]
    return given if all(new is old for new, old in zip(result, given, strict=True)) else result


def _listed(messages: Any) -> list[Any]:
    if messages is None:
        return []
    if isinstance(messages, str):
        if not messages.strip():
            raise InvalidRequestError("messages is an empty text; give the user's words or a list of messages")
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, (list, tuple)):
        hint = "; put it into a list" if isinstance(messages, (Mapping, LLMResponse)) else ""
        raise InvalidRequestError(f"messages must be a list of messages or one text, not {shown(messages)}{hint}")
    return messages if isinstance(messages, list) else list(messages)


def _as_dict(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, LLMResponse):
        return value.message
    if isinstance(value, ToolCall):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        dumped = dump(exclude_none=True)
        if isinstance(dumped, dict):
            if "choices" in dumped:
                raise InvalidRequestError(f"{where} is a whole chat completion; give its choices[0].message")
            # An answer of the Messages or Responses API: what is not the turn itself is about the answer.
            if dumped.get("type") == "message":
                return {key: dumped[key] for key in ("role", "content") if key in dumped}
            return dumped
    raise InvalidRequestError(
        f"{where} must be a dict such as {{'role': 'user', 'content': '...'}}, not {shown(value)}"
    )


def _message(value: Any, where: str, calls: set[str], files: Files) -> dict[str, Any]:
    message = _as_dict(value, where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        near = _OTHER_WORDS.get(str(role).lower(), str(role).lower())
        hint = f"; write {near!r}" if near in _ROLES else ""
        raise InvalidRequestError(f"{where} has the unknown role {shown(role)}; known: {', '.join(_ROLES)}{hint}")
    message = _with_content(message, where, files)
    if role == "assistant":
        message = _with_calls(message, where, calls)
    elif "tool_calls" in message:
        raise InvalidRequestError(f"{where} has role {role!r} and tool_calls; only an assistant message calls tools")
    _check_content(message, role, where)
    if role == "tool":
        _check_result(message.get("tool_call_id"), where, "tool_call_id", calls)
    elif role == "function" and not _is_name(message.get("name")):
        raise InvalidRequestError(f"{where} has role 'function' and no name; say which function gave the result")
    if isinstance(message.get("content"), list):
        _check_blocks(message["content"], where, calls)
    return message


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _check_content(message: dict[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if isinstance(content, str) or (isinstance(content, list) and content):
        return
    if content is None or content == []:
        # An assistant's turn may be a call, a refusal, audio or an opaque payload without a word.
        if role == "assistant" and any(
            each is not None for key, each in message.items() if key not in ("role", "content", "name")
        ):
            return
        raise InvalidRequestError(f"{where} (role {role!r}) has no content; give a text or a list of parts")
    hint = "; a tool's result is text: json.dumps(...) it" if role in ("tool", "function") else ""
    raise InvalidRequestError(f"{where}.content must be a text or a list of parts, not {shown(content)}{hint}")


def _check_result(call_id: Any, where: str, field: str, calls: set[str]) -> None:
    if not _is_name(call_id):
        raise InvalidRequestError(f"{where} is a tool's result without {field}; give the id of the call it answers")
    if call_id not in calls:
        raise InvalidRequestError(
            f"{where} answers the tool call {shown(call_id)}, which no earlier assistant message makes;"
            " append response.message before its results"
        )


def _check_blocks(content: list[Any], where: str, calls: set[str]) -> None:
    for index, part in enumerate(content):
        kind = part["type"]
        if kind == "tool_use" and _is_name(part.get("id")):
            calls.add(part["id"])
        elif kind == "tool_result":
            _check_result(part.get("tool_use_id"), f"{where}.content[{index}]", "tool_use_id", calls)


def _with_calls(message: dict[str, Any], where: str, calls: set[str]) -> dict[str, Any]:
    given = message.get("tool_calls")
    if not given:
        # Null and [] say the same as no key, and some servers reject them.
        return {k: v for k, v in message.items() if k != "tool_calls"} if "tool_calls" in message else message
    if not isinstance(given, (list, tuple)):
        raise InvalidRequestError(f"{where}.tool_calls must be a list, not {shown(given)}")
    result = [_call(each, f"{where}.tool_calls[{index}]") for index, each in enumerate(given)]
    calls.update(each["id"] for each in result)
    if isinstance(given, list) and all(new is old for new, old in zip(result, given, strict=True)):
        return message
    return {**message, "tool_calls": result}


def _call(value: Any, where: str) -> dict[str, Any]:
    call = _as_dict(value, where)
    if not _is_name(call.get("id")):
        raise InvalidRequestError(f"{where} has no id; give the one that the model's answer had")
    if call.get("type", "function") != "function":
        return call
    function = call.get("function")
    if not isinstance(function, dict) or not _is_name(function.get("name")):
        raise InvalidRequestError(f"{where} has no function.name; write {{'id', 'type', 'function': {{'name', ...}}}}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        return call if "type" in call else {**call, "type": "function"}
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidRequestError(f"{where}.function.arguments must be JSON text or a dict, not {shown(arguments)}")
    text = msgspec.json.encode(arguments or {}).decode()
    return {**call, "type": "function", "function": {**function, "arguments": text}}


def _with_content(message: dict[str, Any], where: str, files: Files) -> dict[str, Any]:
    # An assistant's own ``images`` are what a model drew, not shorthand.
    short = _TEXT_KEYS[1:] if message["role"] == "assistant" else (*_TEXT_KEYS[1:], *_IMAGE_KEYS)
    content = message.get("content")
    if any(key in message for key in short):
        source = {key: message[key] for key in ("content", *short) if message.get(key) is not None}
        rest = {key: each for key, each in message.items() if key not in short and key not in ("role", "content")}
        return {"role": message["role"], "content": _from_shorthand(source, where, files), **rest}
    if isinstance(content, dict):
        if "type" in content:
            return {**message, "content": [_part(content, f"{where}.content", files)]}
        if content and all(key in _TEXT_KEYS or key in _IMAGE_KEYS for key in content):
            source = {key: each for key, each in content.items() if each is not None}
            return {**message, "content": _from_shorthand(source, f"{where}.content", files)}
    if isinstance(content, (list, tuple)):
        parts = [_part(each, f"{where}.content[{index}]", files) for index, each in enumerate(content)]
        if isinstance(content, tuple) or any(new is not old for new, old in zip(parts, content, strict=True)):
            return {**message, "content": parts}
    return message


def _from_shorthand(source: dict[str, Any], where: str, files: Files) -> Any:
    given = [key for key in _TEXT_KEYS if key in source]
    if len(given) > 1:
        raise InvalidRequestError(f"{where} has {' and '.join(given)}; give one of them")
    images = _several(source.get("images"))
    paths = _several(source.get("image_paths"))
    words = source[given[0]] if given else None
    if isinstance(words, str):
        if not images and not paths:
            return words
        words = [words]
    if words is not None and not isinstance(words, (list, tuple)):
        raise InvalidRequestError(f"{where}.{given[0]} must be a text or a list of parts, not {shown(words)}")
    details = source.get("image_details")
    if details is None or isinstance(details, str):
        details = [details] * (len(images) + len(paths))
    if not isinstance(details, (list, tuple)) or len(details) != len(images) + len(paths):
        raise InvalidRequestError(f"{where}.image_details must be one word, or as many as there are images")
    parts = [_part(each, f"{where}.{given[0]}[{index}]", files) for index, each in enumerate(words or ())]
    for index, image in enumerate(images):
        place = f"{where}.images[{index}]"
        if isinstance(image, Mapping):
            detail = {} if details[index] is None else {"detail": details[index]}
            parts.append(_part({**detail, **image}, place, files))
        else:
            parts.append(image_part({}, image_url(image, place, files), details[index]))
    for index, path in enumerate(paths, len(images)):
        url = image_from_path(path, f"{where}.image_paths[{index - len(images)}]", files)
        parts.append(image_part({}, url, details[index]))
    return parts


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _part(value: Any, where: str, files: Files) -> dict[str, Any]:
    if isinstance(value, str):
        return {"type": "text", "text": value}
    if isinstance(value, (bytes, bytearray, memoryview, os.PathLike)):
        return bare_part(value, where, files)
    part = _as_dict(value, where)
    kind = part.get("type")
    if kind is None:
        kind = "text" if "text" in part else "image" if any(key in part for key in SOURCES) else None
        part = {**part, "type": kind}
    if not _is_name(kind):
        raise InvalidRequestError(f"{where} is a part without a type; write {{'type': 'text', 'text': ...}}")
    if kind in ("text", "input_text", "output_text"):
        if not isinstance(part.get("text"), str):
            raise InvalidRequestError(f"{where}.text must be a text, not {shown(part.get('text'))}")
        return part if kind == "text" else {**part, "type": "text"}
    made = _MADE.get(str(kind))
    if isinstance(part.get("source"), dict):
        return _block(part, where, files)
    # A file id means something to its own family only.
    if made is None or (part.get("file_id") is not None and kind != "input_file"):
        return part
    return made(part, where, files)


def _block(part: dict[str, Any], where: str, files: Files) -> dict[str, Any]:
    """A block of the Messages API in the form that every family takes; one that only its own understands as it is."""
    source, kind, title = part["source"], part["type"], part.get("title")
    data, mime, url = source.get("data"), source.get("media_type"), source.get("url")
    rest = {key: value for key, value in part.items() if key not in ("type", "source", "title")}
    if source.get("type") == "base64" and isinstance(data, str) and isinstance(mime, str):
        url = f"data:{mime};base64,{data}"
    elif source.get("type") == "text" and isinstance(data, str) and mime == "text/plain":
        url = f"data:text/plain;base64,{b2a_base64(data.encode(), newline=False).decode()}"
    elif source.get("type") != "url" or not isinstance(url, str):
        return part
    if kind == "image":
        return image_part(rest, image_url(url, f"{where}.source", files))
    # A document at an address is PDF, which other families are told by its name alone.
    if kind != "document" or rest.keys() - {"cache_control"} or (is_address(url) and not mime_of_name(title, url)):
        return part
    return typed_file({"type": "file", "file_data": url, "filename": title, **rest}, where, files)
