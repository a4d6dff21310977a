"""
Messages of the chat format as Cohere's.

Both look alike. Cohere wants an assistant's text beside tool calls as ``tool_plan``, tool results as text or documents
(which the model cites), and no turn without content.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.media import check_data, check_url, is_address
from llm_master.wire.cohere_draft import Draft
from llm_master.wire.cohere_opaque import replayed

__all__ = ["write_messages"]

Part = dict[str, Any]

_PLAIN = ("user", "system")
_KNOWN_FIELDS = frozenset(
    (
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "is_error", "refusal"),
        *("opaque", "tool_plan"),
    )
)
# Kinds of part -> what it is called, and what to do instead.
_UNSENDABLE = {
    "file": ("files", "give its text, or documents=[...]"),
    "input_file": ("files", "give its text, or documents=[...]"),
    "input_audio": ("audio", "send a transcript"),
    "audio": ("audio", "send a transcript"),
    "video_url": ("video", "send pictures of it"),
    "input_video": ("video", "send pictures of it"),
    "video": ("video", "send pictures of it"),
}


def write_messages(draft: Draft) -> None:
    """
    Write ``messages`` into the body; ``thinking`` must be there already.

    Raises:
        InvalidRequestError: an unknown role, an unreadable part, or a tool result without its call.
        UnsupportedParameterError: content of a kind that the model cannot take.
    """
    messages = draft.request.messages
    if not draft.instructions and all(_is_plain(message) for message in messages) and _ends_well(messages):
        # The hot path: texts in turn are sent as they are.
        draft.body["messages"] = messages
        return
    turns = _Turns(draft)
    for message in messages:
        turns.add(message)
    draft.body["messages"] = turns.finish()


def _is_plain(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return (
        len(message) == 2 and content.__class__ is str and bool(content) and message["role"] in (*_PLAIN, "assistant")
    )


def _ends_well(messages: list[dict[str, Any]]) -> bool:
    return bool(messages) and messages[-1]["role"] == "user"


class _Turns:
    """The messages so far; ``ids`` maps the caller's ids of calls to those sent."""

    __slots__ = ("draft", "ids", "later", "messages", "open", "used")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.messages: list[dict[str, Any]] = []
        self.ids: dict[str, str] = {}
        self.used: set[str] = set()
        self.open: list[tuple[str, str]] = []  # id and name of calls that have no result yet
        self.later: list[Part] = []  # images of tool results, which follow them as the user's

    def add(self, message: dict[str, Any]) -> None:
        for field, value in message.items():
            if field not in _KNOWN_FIELDS and value is not None:
                self.draft.drop("cache_control" if field == "cache_control" else f"messages.{field}")
        role = message.get("role")
        if role in ("tool", "function"):
            self._result(message)
            return
        self._end_of_results()
        if role == "assistant":
            self._assistant(message)
        elif role in ("user", "system", "developer"):
            self._plain("user" if role == "user" else "system", message)
        else:
            raise self.draft.unknown_role(role)

    def _plain(self, role: str, message: dict[str, Any]) -> None:
        content = self._content(message)
        if role == "system" and not isinstance(content, str) and any(part["type"] != "text" for part in content):
            raise InvalidRequestError(f"{self.draft.target}: a system message takes text only; use role 'user'")
        if content:
            self.messages.append({"role": role, "content": content})

    def _content(self, message: dict[str, Any]) -> str | list[Part]:
        content, name = message.get("content"), message.get("name")
        if isinstance(content, str):
            return f"{name}: {content}" if name and content else content
        parts = [] if content is None else self._parts(content)
        if name and parts:
            parts.insert(0, {"type": "text", "text": f"{name}: "})
        return parts

    def _parts(self, content: Any) -> list[Part]:
        draft = self.draft
        if not isinstance(content, list):
            raise InvalidRequestError(
                f"{draft.target}: a message's content is {type(content).__name__}; give a text or a list of parts"
            )
        return [sent for part in content if (sent := self._part(part)) is not None]

    def _part(self, part: Any) -> Part | None:
        draft = self.draft
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequestError(f"{draft.target}: a content part without a type; give a text or a typed part")
        if part.get("cache_control"):
            draft.drop("cache_control")
            part = {key: value for key, value in part.items() if key != "cache_control"}
        kind = part["type"]
        draft.request.show(kind)
        if kind in _UNSENDABLE:
            what, instead = _UNSENDABLE[kind]
            raise UnsupportedParameterError(
                f"{draft.target} takes no {what} ({kind!r} part); {instead}, or use a model that does", parameter=kind
            )
        if kind in ("image_url", "input_image"):
            return _image(part, draft)
        if kind == "refusal":
            text = part.get("refusal")
            return {"type": "text", "text": text} if text else None
        return part if kind != "text" or part.get("text") else None

    def _assistant(self, message: dict[str, Any]) -> None:
        kept = replayed(message, self.draft.request)
        content = self._content(message)
        refusal = message.get("refusal")
        if refusal:
            content = content + refusal if isinstance(content, str) else [*content, {"type": "text", "text": refusal}]
        calls = message.get("tool_calls") or ()
        if message.get("function_call"):
            calls = [*calls, {"function": message["function_call"]}]
        thoughts = kept.get("content") or [] if self.draft.thinks else []
        turn: dict[str, Any] = {"role": "assistant"}
        if calls:
            # Text beside calls is refused; what the model said before them is its plan.
            plan = message.get("tool_plan") or kept.get("tool_plan") or ""
            said = _text_of(content)
            turn["tool_plan"] = plan + said if plan != said else plan
            turn["content"] = thoughts
            turn["tool_calls"] = [self._call(call) for call in calls]
        else:
            if isinstance(content, list) and any(part["type"] == "thinking" for part in content):
                thoughts = []
            turn["content"] = content if not thoughts else [*thoughts, *_listed(content)]
        turn = {field: value for field, value in turn.items() if value}
        if len(turn) > 1:
            self.open = [(call["id"], call["function"]["name"]) for call in turn.get("tool_calls", ())]
            self.messages.append(turn)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        function = self.draft.function_of(call)
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        sent = {"name": function["name"], "arguments": arguments or "{}"}
        return {"id": self._call_id(call.get("id") or ""), "type": "function", "function": sent}

    def _call_id(self, given: str) -> str:
        # Some servers number the calls of each turn from zero; a citation names its source by this id.
        base = sent = given or f"call_{len(self.messages)}"
        count = 0
        while sent in self.used:
            count += 1
            sent = f"{base}_{count}"
        self.used.add(sent)
        self.ids[given] = sent
        return sent

    def _result(self, message: dict[str, Any]) -> None:
        wanted = message.get("tool_call_id") or ""
        call_id = self.ids.get(wanted) if wanted else self._open_call(message)
        if call_id is None or call_id not in (each for each, _ in self.open):
            raise InvalidRequestError(
                f"{self.draft.target}: tool result {wanted!r} answers no tool call of the turn before it, or a second "
                "time; keep the assistant's message with its tool_calls before it"
            )
        self.open = [each for each in self.open if each[0] != call_id]
        content = message.get("content")
        sent = _documents(content) if isinstance(content, str) else self._result_parts(content or [])
        if message.get("is_error"):
            sent = _failed(sent)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": sent})

    def _open_call(self, message: dict[str, Any]) -> str | None:
        """The first call without a result; a function's result answers the call of its name."""
        name = message.get("name") if message["role"] == "function" else None
        return next((call_id for call_id, called in self.open if name in (None, called)), None)

    def _result_parts(self, content: Any) -> list[Part]:
        parts = self._parts(content)
        self.later.extend(part for part in parts if part["type"] == "image_url")
        kept = [part for part in parts if part["type"] != "image_url"]
        if len(kept) < len(parts):
            kept.append({"type": "text", "text": "The image follows in the user's next message."})
        return kept or [{"type": "text", "text": ""}]

    def _end_of_results(self) -> None:
        if self.open:
            raise InvalidRequestError(
                f"{self.draft.target}: tool call {self.open[0][0]!r} has no result; give one message with role 'tool' "
                "for each call"
            )
        if self.later:
            self.messages.append({"role": "user", "content": self.later})
            self.later = []

    def finish(self) -> list[dict[str, Any]]:
        self._end_of_results()
        draft = self.draft
        if draft.instructions:
            self._instruct()
        while self.messages and self.messages[-1]["role"] == "assistant":
            draft.refuse("prefill", "its last message must not be the assistant's", "end the messages with the user's")
            self.messages.pop()
        if not any(message["role"] != "system" for message in self.messages):
            raise InvalidRequestError(f"{draft.target} needs a user message, and there is none; add one")
        return self.messages

    def _instruct(self) -> None:
        first = next((at for at, each in enumerate(self.messages) if each["role"] != "system"), len(self.messages))
        self.messages.insert(first, {"role": "system", "content": "\n\n".join(self.draft.instructions)})


def _listed(content: str | list[Part]) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _text_of(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")


def _documents(text: str) -> str | list[Part]:
    """A result that is JSON objects as documents, each a source that the model can cite; other text stays text."""
    if text[:1] not in ("{", "["):
        return text
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    objects = [found] if isinstance(found, dict) else found
    if not objects or not all(isinstance(each, dict) and each for each in objects):
        return text
    return [{"type": "document", "document": {"data": each}} for each in objects]


def _failed(sent: str | list[Part]) -> list[Part]:
    """A result that is an error, in words: there is no field for it."""
    if isinstance(sent, str):
        return [{"type": "document", "document": {"data": {"error": sent}}}]
    return [{"type": "text", "text": "The tool failed:"}, *sent]


def _image(part: Part, draft: Draft) -> Part:
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image}
    if not isinstance(image, dict) or not isinstance(image.get("url"), str) or not image["url"]:
        raise InvalidRequestError(f"{draft.target}: an image part without a url; give a data: or http(s) URL")
    if not draft.dialect.images:
        raise UnsupportedParameterError(
            f"{draft.target} takes no images; describe it in words, or use a model that sees,"
            " such as command-a-plus-05-2026",
            parameter="image_url",
        )
    url = image["url"]
    if is_address(url):
        check_url(draft.dialect.media, "cohere", "image", url, who=draft.target)
    elif url[:5].lower() == "data:":
        head, _, data = url[5:].partition(",")
        mime = head.partition(";")[0].strip().lower()
        check_data(draft.dialect.media, "cohere", "image", mime, data, who=draft.target)
    else:
        raise InvalidRequestError(
            f"{draft.target}: an image must be a data: or http(s) URL, not {image['url'][:40]!r};"
            " read the file into a data: URL"
        )
    return {"type": "image_url", "image_url": image}
