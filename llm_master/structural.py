"""
Providers that are known by what they can do: any object with ``generate``, ``complete`` or ``chat``.

No base class is needed. These are the shapes, and only ``messages`` has to be among the parameters::

    async def generate(self, messages, model, stream=False, **kwargs) -> LLMResponse
    async def complete(self, messages, *, temperature=None, max_tokens=None, tools=None, **kwargs) -> LLMResponse
    async def chat(self, messages, model=None, stream=False) -> ChatResponse
    async def stream_chat(self, messages, model=None)  # gives pieces of text
    async def count_tokens(self, messages, model=None) -> int

``complete`` and ``chat`` are called with what their signatures take; a parameter that they do not take is refused
before the call, or left out with ``drop_params``. Tools go to ``complete`` where the class says ``supports_tools =
True``. Their answer is an ``LLMResponse``, a text, or anything with ``content`` (or ``reply``) and ``usage``. Methods
that are not ``async`` run on a thread, so that one that blocks holds up nobody else.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llm_master.classes import LLMResponse, ToolCall, Usage
from llm_master.errors import ConfigurationError, ProviderError, UnsupportedParameterError
from llm_master.threads import on_a_thread

if TYPE_CHECKING:
    from llm_master.classes import Request

__all__ = ["METHODS", "Shape", "response_from"]

#: What makes an object a provider; the first that it has is used.
METHODS = ("generate", "complete", "chat")

_TEXT_NAMES = ("text", "prompt", "content", "string")
_END = object()


class Shape:
    """
    How one provider without ``generate`` is called.

    Args:
        name: for messages of errors.
        provider: the object.

    Raises:
        ConfigurationError: it has no method that answers messages.
    """

    def __init__(self, name: str, provider: Any) -> None:
        self._name = name
        self._provider = provider
        method = next((each for each in METHODS[1:] if callable(getattr(provider, each, None))), None)
        if method is None:
            raise ConfigurationError(
                f"{name} ({type(provider).__name__}) has none of {', '.join(METHODS)}; define one of them"
            )
        self._method = method
        self._ask = getattr(provider, method)
        self._stream = getattr(provider, "stream_chat", None)
        self._count = getattr(provider, "count_tokens", None)

    @property
    def streams(self) -> bool:
        """Whether it streams: by ``stream_chat``, or by a parameter ``stream``."""
        return callable(self._stream) or "stream" in _parameters(self._ask)

    @property
    def counts(self) -> bool:
        """Whether it counts tokens."""
        return callable(self._count)

    async def answer(self, request: Request) -> LLMResponse:
        """
        A whole answer.

        Raises:
            UnsupportedParameterError: a parameter that it does not take.
            ProviderError: what it gave is no answer.
        """
        more = {"stream": False} if "stream" in _parameters(self._ask) else {}
        arguments = self._arguments(self._ask, request)
        return response_from(await _called(self._ask, request.messages, {**arguments, **more}), self._name, request)

    async def stream(self, request: Request) -> Any:
        """An async iterator of text, or a whole answer where it gives that; raises as ``answer``."""
        method = self._stream if callable(self._stream) else self._ask
        more = {} if callable(self._stream) or "stream" not in _parameters(method) else {"stream": True}
        found = await _called(method, request.messages, {**self._arguments(method, request), **more})
        if isinstance(found, (str, Mapping, LLMResponse)):
            return response_from(found, self._name, request)
        if hasattr(found, "__aiter__"):
            return _texts(found, self._name, request)
        if hasattr(found, "__iter__"):
            return _texts(_on_a_thread(iter(found)), self._name, request)
        return response_from(found, self._name, request)

    async def count(self, request: Request) -> int:
        """
        Tokens of the messages, by its own count.

        Raises:
            ConfigurationError: it has no ``count_tokens``.
            ProviderError: what it gave is no number.
        """
        if not callable(self._count):
            raise ConfigurationError(f"{self._name} has no count_tokens for {request.model!r}; define it")
        parameters = _parameters(self._count)
        model = {"model": request.model} if "model" in parameters else {}
        found = await _called(self._count, _countable(parameters, request.messages), model)
        number = found if isinstance(found, int) else _field(found, "tokens", "total_tokens", "input_tokens")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ProviderError(
                f"{self._name}.count_tokens gave {type(found).__name__} for {request.model!r}; return a whole number",
                provider=self._name,
                model=request.model,
            )
        return number

    def _arguments(self, method: Callable[..., Any], request: Request) -> dict[str, Any]:
        """What a method is called with besides the messages."""
        parameters = _parameters(method)
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        arguments: dict[str, Any] = {"model": request.model} if "model" in parameters else {}
        params = dict(request.params)
        if request.headers:
            params["extra_headers"] = request.headers
        no_tools = self._method == "complete" and not getattr(self._provider, "supports_tools", False)
        for name, value in params.items():
            refused = no_tools and name in ("tools", "tool_choice") and value
            if not refused and (name in parameters or open_ended):
                arguments[name] = value
            elif value is not None:
                self._refuse(name, request, "set supports_tools = True on it" if refused else "leave it out")
        return arguments

    def _refuse(self, name: str, request: Request, instead: str) -> None:
        if not request.drop_params:
            raise UnsupportedParameterError(
                f"{self._name} model {request.model!r} does not take {name}; {instead}, or pass drop_params=True",
                parameter=name,
            )
        request.dropped = (*request.dropped, name)


def _parameters(method: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(method).parameters
    except (TypeError, ValueError):
        return {}


def _is_async(method: Callable[..., Any]) -> bool:
    inner = inspect.unwrap(method)
    call = getattr(inner, "__call__", None)  # noqa: B004  # an object's own, to look whether it is async
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (inner, call))


async def _called(method: Callable[..., Any], first: Any, arguments: dict[str, Any]) -> Any:
    if _is_async(method):
        found = method(first, **arguments)
    else:
        found = await on_a_thread(method, first, **arguments)
    return await found if inspect.isawaitable(found) else found


async def _on_a_thread(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    """The pieces of a blocking iterator, each made on a thread."""
    loop = asyncio.get_running_loop()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = loop.run_in_executor(None, next, pieces, _END)
            piece = await asyncio.shield(step)
            if piece is _END:
                return
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            if step is not None and not step.done():
                # A generator cannot be closed while it runs: that waits until its piece is there.
                step.add_done_callback(lambda done: (done.cancelled() or done.exception(), close()))
            else:
                close()


async def _texts(pieces: AsyncIterator[Any], name: str, request: Request) -> AsyncIterator[str]:
    async for piece in pieces:
        text = piece if isinstance(piece, str) else _field(piece, "content", "text", "delta", "reply")
        if text is None and not isinstance(piece, str):
            choices = _field(piece, "choices")
            text = _field(_field(choices[0], "delta"), "content") if choices else None
        if text is None:
            continue
        if not isinstance(text, str):
            raise ProviderError(
                f"{name} streamed a {type(piece).__name__} for {request.model!r}; yield pieces of text",
                provider=name,
                model=request.model,
            )
        yield text


def _countable(parameters: Mapping[str, inspect.Parameter], messages: list[dict[str, Any]]) -> Any:
    """The messages, or their text where that is what ``count_tokens`` takes."""
    first = next(iter(parameters.values()), None)
    if first is None or (first.name not in _TEXT_NAMES and first.annotation not in (str, "str")):
        return messages
    return "\n".join(text for message in messages for text in _words(message.get("content")))


def _words(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [each["text"] for each in content or () if isinstance(each, Mapping) and isinstance(each.get("text"), str)]


def _field(value: Any, *names: str) -> Any:
    """The first of several fields that a mapping or an object has, None where it has none."""
    for name in names:
        found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if found is not None and not callable(found):
            return found
    return None


def response_from(value: Any, name: str, request: Request) -> LLMResponse:
    """
    What a provider gave, as an ``LLMResponse``.

    Raises:
        ProviderError: it holds no answer.
    """
    if isinstance(value, LLMResponse):
        response = value
    elif isinstance(value, str):
        response = LLMResponse(content=value)
    else:
        choices = _field(value, "choices")
        turn = _field(choices[0], "message") if isinstance(choices, (list, tuple)) and choices else value
        calls = _field(turn, "tool_calls") or ()
        content = _field(turn, "content", "reply", "text")
        if (content is not None and not isinstance(content, str)) or (content is None and not calls):
            raise ProviderError(
                f"{name} gave a {type(value).__name__} for {request.model!r}; return an LLMResponse, a text, or"
                " something with content and usage",
                provider=name,
                model=request.model,
            )
        response = LLMResponse(
            content=content or "",
            usage=_usage(_field(value, "usage")),
            model=_string(_field(value, "model")),
            tool_calls=[_tool_call(each) for each in calls],
            finish_reason=_string(_field(choices[0] if choices else value, "finish_reason"))
            or ("tool_calls" if calls else "stop"),
        )
    if request.dropped:
        response.dropped = (*response.dropped, *request.dropped)
    return response


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _usage(value: Any) -> Usage:
    if isinstance(value, Usage):
        return value
    names = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
    sent, given = (each if isinstance(each, int) and each >= 0 else 0 for each in (_field(value, *n) for n in names))
    return Usage(sent, given)


def _tool_call(value: Any) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    inner = _field(value, "function") or value
    arguments = _field(inner, "arguments")
    given = {"raw_arguments": arguments} if isinstance(arguments, str) else {"arguments": dict(arguments or {})}
    return ToolCall(str(_field(value, "id") or ""), str(_field(inner, "name") or ""), **given)
