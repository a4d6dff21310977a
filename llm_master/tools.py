"""
The loop that runs a model's tools until it has its answer.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.built import adapter_of, build
from llm_master.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    LLMError,
    ToolArgumentsError,
    ToolLoopError,
)
from llm_master.functions import function_tool, parameters_of
from llm_master.params import check_timeout
from llm_master.redaction import redact, shown
from llm_master.threads import on_a_thread

if TYPE_CHECKING:
    from decimal import Decimal

    from llm_master.classes import LLMResponse, ToolCall, Usage

__all__ = ["ToolBox", "ToolResult", "ToolRun", "run"]

_LONGEST = 200_000


class ToolResult(msgspec.Struct, frozen=True):
    """
    What one call of a tool came to.

    Attributes:
        call: as the model made it.
        content: the text that the model is shown.
        error: the exception that became an observation, None when it went well.
        seconds: that it took.
    """

    call: Any
    content: str
    error: Exception | None = None
    seconds: float = 0.0


class ToolRun(msgspec.Struct):
    """
    A conversation with tools, ended.

    Attributes:
        response: the model's last answer.
        messages: the whole conversation, that answer included; it can be gone on with.
        results: every call of a tool, oldest first.
        responses: every answer of the model, the last one among them.
    """

    response: LLMResponse
    messages: list[dict[str, Any]]
    results: list[ToolResult]
    responses: list[LLMResponse]

    @property
    def content(self) -> str:
        """The text of the last answer."""
        return self.response.content

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together."""
        total = self.responses[0].usage
        for response in self.responses[1:]:
            total += response.usage
        return total

    @property
    def cost(self) -> Decimal | None:
        """USD of all answers together; None when the price of one is not known."""
        costs = [response.cost for response in self.responses]
        known = [cost for cost in costs if cost is not None]
        return sum(known[1:], known[0]) if len(known) == len(costs) else None


class ToolBox:
    """
    The tools of a run, by name.

    Args:
        tools: functions, or definitions whose functions are in ``handlers``.
        handlers: functions by the name of their definition.
        timeout: seconds that one call of a tool may take, None for no limit of its own.

    Raises:
        InvalidRequestError: a definition has no function, or something is neither.
    """

    def __init__(
        self,
        tools: Sequence[Any],
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.functions: dict[str, Callable[..., Any]] = dict(handlers or {})
        self.definitions: list[dict[str, Any]] = []
        self._timeout = None if timeout is None else check_timeout(timeout, "tool_timeout")
        if not isinstance(tools, (list, tuple)):
            raise _wrong("tools", tools, "a list of functions and definitions")
        for handled, function in self.functions.items():
            if not callable(function):
                raise _wrong(f"handlers[{handled!r}]", function, "a function")
        for index, tool in enumerate(tools):
            if not callable(tool) and not isinstance(tool, dict):
                raise _wrong(f"tools[{index}]", tool, "a function or a definition")
            if callable(tool):
                definition = function_tool(tool)
                self.functions[definition["function"]["name"]] = tool
            else:
                definition = tool
            self.definitions.append(definition)
        for definition in self.definitions:
            inner = definition.get("function", definition)
            name = inner.get("name") if isinstance(inner, dict) else None
            if definition.get("type", "function") == "function" and name not in self.functions:
                raise InvalidRequestError(
                    f"run_tools: the tool {name!r} has no function; give handlers={{{name!r}: f}}"
                )

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call; whatever goes wrong becomes the text that the model is shown."""
        began = monotonic()
        try:
            content = await self._run(call)
        except Exception as error:  # noqa: BLE001  # whatever it is, the model is told and may do better
            known = isinstance(error, ToolArgumentsError | LLMError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            return ToolResult(call, f"Error: {redact(text)}", error, monotonic() - began)
        return ToolResult(call, content[:_LONGEST], None, monotonic() - began)

    async def _run(self, call: ToolCall) -> str:
        function = self.functions.get(call.name)
        if function is None:
            raise ToolArgumentsError(f"there is no tool {call.name!r}; there are {', '.join(self.functions)}")
        arguments = _converted(function, call.arguments)
        async with asyncio.timeout(self._timeout):
            if inspect.iscoroutinefunction(function):
                value = await function(**arguments)
            else:
                value = await on_a_thread(function, **arguments)
                if inspect.isawaitable(value):
                    value = await value
        return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=_plain).decode()


def _wrong(name: str, value: Any, accepted: str) -> InvalidRequestError:
    return InvalidRequestError(f"run_tools: {name}={shown(value)} is not accepted; give {accepted}")


def _plain(value: Any) -> Any:
    """What msgspec cannot write: the fields of a pydantic model, of anything else its text."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def _converted(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        kinds = {parameter.name: kind for parameter, kind in parameters_of(function)}
    except InvalidRequestError:
        return arguments
    accepts_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    unknown = [name for name in arguments if name not in kinds]
    if unknown and not accepts_more:
        raise ToolArgumentsError(f"{function.__name__} takes no {', '.join(unknown)}; it takes {', '.join(kinds)}")
    found = {}
    for name, value in arguments.items():
        kind = kinds.get(name, Any)
        if hasattr(kind, "model_validate"):
            found[name] = kind.model_validate(value)
            continue
        adapter = adapter_of(kind)
        if adapter is not None:
            found[name] = adapter.validate_python(value)
            continue
        build(kind)
        try:
            found[name] = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ToolArgumentsError(f"{function.__name__}({name}=...): {error}") from error
    return found


async def run(
    ask: Callable[..., Any],
    turns: list[dict[str, Any]],
    box: ToolBox,
    *,
    max_rounds: int,
    max_calls: int,
    parallel: bool,
    deadline: float | None,
) -> ToolRun:
    """
    Ask, run what the model wants run, show it the results, and again, until it answers without a call.

    Args:
        ask: one query with messages and the seconds left.
        turns: the conversation so far; not changed.
        deadline: monotonic seconds at which all must have ended, None for no limit.

    Raises:
        InvalidRequestError: a bound is no whole number, or there is no round at all.
        ToolLoopError: a bound is reached; the error holds the run so far.
        LLMError: as ``query``; ``error.run`` is the run so far, None when there was no answer yet.
    """
    for name, bound, least in (("max_rounds", max_rounds, 1), ("max_calls", max_calls, 0)):
        if isinstance(bound, bool) or not isinstance(bound, int) or bound < least:
            raise _wrong(name, bound, f"a whole number from {least}")
    messages = list(turns)
    results: list[ToolResult] = []
    responses: list[LLMResponse] = []
    for _ in range(max_rounds):
        left = None if deadline is None else max(0.001, deadline - monotonic())
        with _kept(messages, results, responses):
            response = await ask(messages, left)
        responses.append(response)
        messages.append(response.message)
        found = ToolRun(response, messages, results, responses)
        if not response.tool_calls:
            return found
        if len(results) + len(response.tool_calls) > max_calls:
            raise ToolLoopError(
                f"{response.provider}/{response.model} wants more than max_calls={max_calls} calls of tools; raise it"
                " or change the tools",
                run=found,
            )
        with _kept(messages, results, responses):
            fresh = await _all(box, response.tool_calls, parallel=parallel, deadline=deadline)
        results.extend(fresh)
        messages.extend({"role": "tool", "tool_call_id": result.call.id, "content": result.content} for result in fresh)
    raise ToolLoopError(
        f"{responses[-1].provider}/{responses[-1].model} still calls tools after max_rounds={max_rounds} rounds;"
        " raise it or change the tools",
        run=ToolRun(responses[-1], messages, results, responses),
    )


@contextmanager
def _kept(messages: list[dict[str, Any]], results: list[ToolResult], responses: list[LLMResponse]) -> Iterator[None]:
    """Let an error hold what was answered before it."""
    try:
        yield
    except LLMError as error:
        if responses:
            error.run = ToolRun(responses[-1], messages, results, responses)
        raise


async def _all(box: ToolBox, calls: Sequence[ToolCall], *, parallel: bool, deadline: float | None) -> list[ToolResult]:
    left = None if deadline is None else max(0.0, deadline - monotonic())
    try:
        async with asyncio.timeout(left):
            if parallel:
                return list(await asyncio.gather(*(box.call(call) for call in calls)))
            return [await box.call(call) for call in calls]
    except TimeoutError:
        names = ", ".join(call.name for call in calls)
        raise DeadlineExceededError(
            f"the deadline is over while tools run ({names}); raise timeout= or set tool_timeout="
        ) from None
