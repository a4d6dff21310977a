"""
A request for an image before it is written for one service: the prompt, the pictures to change, the parameters.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from llm_master.classes import Image, Request
from llm_master.dialect_images import DrawDialect
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.image_input import sniff_mime
from llm_master.money import EXACT, money

__all__ = ["NOTE", "Drawing", "bytes_of", "cost_of", "has_more", "image_of", "look_up"]

# Parameters of a chat, which no service of images has.
_OF_CHAT = frozenset(
    (
        *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "max_output_tokens"),
        *("stop", "stop_sequences", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("reasoning_effort", "thinking_budget", "thinking", "verbosity", "modalities", "audio", "prediction"),
        *("use_prompt_caching", "web_search_options", "stream_options", "store"),
    )
)
_NOT_BODY = ("extra_headers", "extra_query", "extra_body")
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
NOTE = "the prompt is the last turn of the user; earlier and other messages were not sent"


class Drawing:
    """
    A request, checked against what the model takes.

    Args:
        request: as the families take it; what is left out is added to its ``dropped``.
        dialect: of the row; ``dialect`` here is that of the model.

    Attributes:
        prompt: the text of the last user's turn.
        images: its pictures, as data URIs or addresses.
        params: body fields; extra: those of ``extra_body``, which are not checked.
        model: the name to send, ``""`` for none.

    Raises:
        InvalidRequestError: no prompt, too long a prompt, too many pictures, a part that is neither.
        UnsupportedParameterError: the model cannot take a parameter, unless drop_params is set.
    """

    __slots__ = ("dialect", "dropped", "extra", "images", "model", "params", "prompt", "request", "target")

    def __init__(self, request: Request, dialect: DrawDialect) -> None:
        self.request = request
        self.dialect: Any = dialect.for_model(request.model)
        self.target = f"{request.provider}/{request.model}"
        self.model = self.dialect.names.get(request.model.lower(), request.model)
        self.dropped: list[str] = []
        self._read(request.messages)
        self.params = {name: value for name, value in request.params.items() if value is not None}
        extra = self.params.pop("extra_body", None)
        if extra is not None and not isinstance(extra, dict):
            raise InvalidRequestError(f"{self.target}: extra_body must be a dict of body fields, not {extra!r}")
        self.extra: dict[str, Any] = extra or {}
        for name in _NOT_BODY:
            self.params.pop(name, None)
        self._check()
        self._write_size()
        self._rename()
        for name, value in self.dialect.defaults.items():
            if self.dialect.instead.get(name) not in self.params:
                self.params.setdefault(name, value)
        if self.dropped:
            request.dropped = tuple(dict.fromkeys((*request.dropped, *self.dropped)))

    def refuse(self, parameter: str, why: str, instead: str) -> None:
        """
        Note a parameter that is left out.

        Raises:
            UnsupportedParameterError: the caller did not allow that.
        """
        if not self.request.drop_params:
            raise UnsupportedParameterError(
                f"{self.target} does not take {parameter}{why}; {instead}, or pass drop_params=True",
                parameter=parameter,
            )
        self.dropped.append(parameter)

    # -- what is drawn ------------------------------------------------------------------------------------------

    def _read(self, messages: list[dict[str, Any]]) -> None:
        texts: list[str] = []
        self.images: list[str] = []
        for message in last_turn(messages):
            content = message.get("content")
            if isinstance(content, str):
                texts.append(content)
                continue
            for part in content or ():
                if part.get("type") == "text":
                    texts.append(part["text"])
                elif part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
                    self.images.append(part["image_url"]["url"])
                else:
                    raise InvalidRequestError(
                        f"{self.target} draws from text and images; it takes no part of type {part.get('type')!r}"
                    )
        self.prompt = "\n\n".join(text for text in texts if text.strip())
        if not self.prompt:
            raise InvalidRequestError(f"{self.target} needs a prompt: give prompt= or a user message with text")
        longest, most = self.dialect.longest_prompt, self.dialect.most_images
        if longest is not None and len(self.prompt) > longest:
            raise InvalidRequestError(
                f"{self.target} takes a prompt of {longest} characters, and this one has {len(self.prompt)}: shorten it"
            )
        if len(self.images) > most:
            takes = f"{most} at most" if most else "none"
            raise InvalidRequestError(
                f"{self.target} was given {len(self.images)} images and takes {takes};"
                " leave them out or name another model"
            )

    # -- how ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        params, dialect = self.params, self.dialect
        for name in sorted(params):
            value = params[name]
            if name in dialect.neutral and value == dialect.neutral[name]:
                del params[name]
            elif name in _OF_CHAT:
                del params[name]
                self.refuse(name, ", which is a chat's", "leave it out")
            elif name in dialect.drop:
                del params[name]
                self.refuse(name, "", "leave it out")
            elif name in dialect.values and value not in dialect.values[name]:
                del params[name]
                self.refuse(name, f"={value!r}", f"it takes {', '.join(dialect.values[name])}")
            elif name in dialect.clamp:
                self._clamp(name, value, *dialect.clamp[name])
            elif name in dialect.words:
                params[name] = dialect.words[name].get(value, value)

    def _clamp(self, name: str, value: Any, low: float, high: float) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN
            raise InvalidRequestError(f"{self.target}: {name} is a number from {low:g} to {high:g}, not {value!r}")
        if low <= value <= high:
            return
        bound = low if value < low else high
        self.refuse(name, f"={value!r}", f"it takes {low:g} to {high:g}" if low != high else f"it takes {low:g} only")
        self.params[name] = int(bound) if isinstance(value, int) else bound

    def _write_size(self) -> None:
        dialect, size = self.dialect, self.params.get("size")
        if size is None:
            return
        found = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if found is None:
            if dialect.size != "given":
                del self.params["size"]
                self.refuse("size", f"={size!r}", "give width and height in pixels, size='1024x768'")
            return
        sides = int(found[1]), int(found[2])
        wrong = self._wrong_size(*sides)
        if wrong is not None:
            del self.params["size"]
            self.refuse("size", f"={size!r}", wrong)
        elif dialect.size != "given":
            del self.params["size"]
            pair = {"width": sides[0], "height": sides[1]}
            if dialect.size == "pair":
                self.params["size"] = pair
                return
            for name, value in pair.items():
                self.params.setdefault(name, value)
                if self.params[name] != value:
                    raise InvalidRequestError(f"{self.target}: size={size!r} and {name}={self.params[name]!r} differ")
                if name in dialect.clamp:
                    self._clamp(name, value, *dialect.clamp[name])

    def _wrong_size(self, width: int, height: int) -> str | None:
        dialect, longer, shorter = self.dialect, max(width, height), min(width, height)
        if dialect.step is not None and (width % dialect.step or height % dialect.step):
            near = "x".join(str(max(1, round(side / dialect.step)) * dialect.step) for side in (width, height))
            return f"both sides must be multiples of {dialect.step} pixels, such as {near}"
        if dialect.ratio is not None and longer > dialect.ratio * shorter:
            return f"one side may be {dialect.ratio:g} times as long as the other at most"
        if dialect.largest is not None and (longer > dialect.largest[0] or shorter > dialect.largest[1]):
            return f"it draws {dialect.largest[0]}x{dialect.largest[1]} pixels at most"
        return None

    def _rename(self) -> None:
        for name, other in self.dialect.rename.items():
            if name in self.params:
                if other in self.params:
                    raise InvalidRequestError(f"{self.target}: {name} and {other} are the same; give one")
                self.params[other] = self.params.pop(name)


def last_turn(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The user's messages at the end, with nothing of another role between them."""
    end = len(messages)
    while end and messages[end - 1]["role"] != "user":
        end -= 1
    start = end
    while start and messages[start - 1]["role"] == "user":
        start -= 1
    return messages[start:end]


def has_more(messages: list[dict[str, Any]]) -> bool:
    """Whether there are messages besides the last turn of the user, which alone is drawn from."""
    return len(last_turn(messages)) < len(messages)


def bytes_of(uri: str) -> tuple[bytes, str]:
    """Bytes and mime type of a data URI."""
    import binascii

    head, _, payload = uri.partition(",")
    return binascii.a2b_base64(payload), head[5:].partition(";")[0]


def image_of(text: str, mime: str | None = None) -> Image:
    """
    An image given as an address, a data URI or base64.

    Raises:
        ValueError: it is none of these.
    """
    import binascii

    if text.startswith(("https://", "http://")):
        return Image(url=text, mime_type=mime)
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        mime = head[5:].partition(";")[0] or mime
    data = binascii.a2b_base64(text, strict_mode=False)
    if not data:
        raise ValueError("an image without data")
    return Image(data=data, mime_type=sniff_mime(data) or mime)


def look_up(value: Any, path: str) -> Any:
    """What stands at a dotted path of decoded JSON, None where nothing does."""
    for key in path.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def cost_of(answer: Any, dialect: DrawDialect) -> Decimal | None:
    """USD that an answer reports, None when it reports nothing usable."""
    given = look_up(answer, dialect.cost) if dialect.cost is not None else None
    amount = money(given)
    return None if amount is None else EXACT.multiply(amount, Decimal(dialect.cost_unit))
