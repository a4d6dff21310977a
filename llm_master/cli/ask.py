"""
``llm-master ask``: one question, the answer alone on stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_master.cli.complete import complete_model, near_models
from llm_master.cli.dry import show
from llm_master.cli.options import Fallback, System
from llm_master.cli.terminal import Answer, print_json, tell
from llm_master.errors import (
    InvalidRequestError,
    MissingKeyError,
    ModelNotFoundError,
    NotFoundError,
    ToolArgumentsError,
)

if TYPE_CHECKING:
    from llm_master.classes import LLMResponse, ToolCall

__all__ = ["ask", "summary"]

# Less than this between the first and the last piece is no time in which a speed could be measured, in seconds.
_INSTANT = 0.01


def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The question; - or nothing reads it from standard input."),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            *("--model", "-m"),
            metavar="NAME",
            help="A model: gpt-4o-mini, provider/model, local:/path/to/any.gguf; else LLM_DEFAULT_MODEL, or local.",
            autocompletion=complete_model,
            envvar="LLM_MASTER_MODEL",
        ),
    ] = None,
    system: System = None,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Show the answer while it comes (the default), or once it is whole."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the whole response as JSON instead of the answer.")
    ] = False,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="PATH", help="A picture, as a file or a URL; may be repeated."),
    ] = None,
    fallback: Fallback = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-t", metavar="X", help="Randomness of the answer.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="Longest answer, in tokens.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Time for the whole call.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, as the command explain does; send nothing.")
    ] = False,
) -> None:
    """
    Ask a model.

    The answer goes to standard output, and one line about it (model, tokens, time, cost) to standard error.
    """
    if json_output and stream:
        raise InvalidRequestError("--json prints the response once it is whole: leave --stream out")
    messages = _messages(_prompt(prompt), system, image or [])
    given = {"temperature": temperature, "max_tokens": max_tokens, "timeout": timeout, "fallback_model": fallback}
    kwargs = {name: value for name, value in given.items() if value is not None and value != []}
    kwargs["stream"] = not json_output if stream is None else stream
    if dry_run:
        _explain(model, messages, kwargs, json_output=json_output)
        return
    try:
        response = _run(model, messages, kwargs, shown=not json_output)
    except (MissingKeyError, NotFoundError) as error:
        raise _misspelt(error, [*([model] if model else []), *(fallback or [])]) from error
    if json_output:
        print_json(_as_dict(response))
        sys.stdout.flush()
    tell(summary(response))


def _explain(model: str | None, messages: list[dict[str, Any]], kwargs: dict[str, Any], *, json_output: bool) -> None:
    from llm_master.defaults import MODEL, PROVIDER
    from llm_master.response_synthesizer import QueryLLM

    llm = QueryLLM()
    if model is None and llm.config.variable_for((PROVIDER, MODEL)) is None:
        model = "local"
    show(llm.explain(model, messages, **kwargs), json_output=json_output)


def _prompt(argument: str | None) -> str:
    if argument is not None and argument != "-":
        text, origin = argument, "the question"
    elif argument is None and sys.stdin is not None and sys.stdin.isatty():
        raise InvalidRequestError("no question: give it as an argument or on standard input")
    else:
        text, origin = _standard_input(), "standard input"
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{origin} is not UTF-8 text") from None
    if not text.strip():
        raise InvalidRequestError(f"{origin} is empty: give a question as an argument or on standard input")
    return text


def _standard_input() -> str:
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    return data.decode("utf-8", "surrogateescape").removesuffix("\n")


def _messages(text: str, system: str | None, images: list[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if not images:
        return [*messages, {"role": "user", "content": text}]
    remote = ("http://", "https://", "data:")
    found = [each if each.lower().startswith(remote) else Path(each).expanduser() for each in images]
    return [*messages, {"role": "user", "text": text, "images": found}]


def _run(model: str | None, messages: list[dict[str, Any]], kwargs: dict[str, Any], *, shown: bool) -> LLMResponse:
    import asyncio

    return asyncio.run(_answer(model, messages, kwargs, shown=shown))


async def _answer(
    model: str | None, messages: list[dict[str, Any]], kwargs: dict[str, Any], *, shown: bool
) -> LLMResponse:
    from llm_master.defaults import MODEL, PROVIDER
    from llm_master.response_synthesizer import QueryLLM
    from llm_master.stream import LLMStream

    async with QueryLLM() as llm:
        if model is None and llm.config.variable_for((PROVIDER, MODEL)) is None:
            model = "local"
        result: LLMResponse | LLMStream = await llm.query(model, messages, **kwargs)
        answer = Answer(sys.stdout)
        if not isinstance(result, LLMStream):
            if shown:
                answer.write(result.content)
                answer.end()
            return result
        try:
            async for text in result:
                answer.write(text)
            answer.end()
        finally:
            answer.break_off()
        return result.response


def _misspelt(error: MissingKeyError | NotFoundError, names: list[str]) -> Exception:
    """The error, or, when a name is nearly that of a known model, one that says so."""
    for name in names:
        near = near_models(name)
        if near:
            text = f"{error}; {name!r} is not a model known here: did you mean {', '.join(near)}?"
            return ModelNotFoundError(text, model=name, suggestions=near)
    return error


def summary(response: LLMResponse) -> str:
    """One line: model, tokens in and out, seconds, tokens a second while it wrote, cost, and what was unusual."""
    usage = response.usage
    writing = response.latency - (response.time_to_first_token or 0.0)
    if writing < _INSTANT:
        writing = response.latency
    parts = [
        f"{response.provider}/{response.model or response.model_name}",
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
        f"{response.latency:.2f} s",
    ]
    if usage.output_tokens and writing > 0:
        parts.append(f"{usage.output_tokens / writing:.1f} tokens/s")
    cost = response.cost
    parts.append("cost unknown" if cost is None else f"${cost.normalize():f}" if cost else "$0")
    if len(response.attempts) > 1:
        parts.append(f"{len(response.attempts)} attempts")
    if response.finish_reason not in (None, "stop"):
        parts.append(f"ended by {response.finish_reason}")
    if response.refusal:
        parts.append(f"refused: {response.refusal}")
    parts += [f"tool call {call.name}({call.raw_arguments})" for call in response.tool_calls]
    return " | ".join(parts)


def _as_dict(response: LLMResponse) -> dict[str, Any]:
    cost = response.cost
    return {
        "content": response.content,
        "reasoning": response.reasoning,
        "refusal": response.refusal,
        "model_name": response.model_name,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "tool_calls": [{"id": c.id, "name": c.name, "arguments": _arguments(c)} for c in response.tool_calls],
        "citations": response.citations,
        "usage": response.usage,
        "cost": None if cost is None else str(cost),
        "latency": response.latency,
        "time_to_first_token": response.time_to_first_token,
        "request_id": response.request_id,
        "dropped": response.dropped,
        "notes": response.notes,
        "attempts": response.attempts,
    }


def _arguments(call: ToolCall) -> Any:
    try:
        return call.arguments
    except ToolArgumentsError:
        return call.raw_arguments
