"""
``llm-master ask``: one question, the answer alone on stdout.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_master.classes import LLMResponse
from llm_master.cli.complete import complete_model
from llm_master.errors import InvalidRequestError

__all__ = ["as_json", "ask", "summary"]


def ask(
    prompt: Annotated[str | None, typer.Argument(help="The question; - or nothing reads standard input.")] = None,
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model name.", autocompletion=complete_model, envvar="LLM_MASTER_MODEL")
    ] = "local",
    system: Annotated[str | None, typer.Option("--system", "-s", help="System prompt.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Show the answer while it comes.")] = True,
    json_output: Annotated[bool, typer.Option("--json", help="Print the whole response as JSON.")] = False,
    image: Annotated[list[Path] | None, typer.Option("--image", help="A picture to look at; may be repeated.")] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option("--fallback", help="Where to go when the model fails.", autocompletion=complete_model),
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds for the whole call.")] = None,
) -> None:
    """Ask a model; the answer goes to stdout, one line about it to stderr."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    text = _prompt(prompt)
    if image:
        messages.append({"role": "user", "text": text, "image_paths": [str(path) for path in image]})
    else:
        messages.append({"role": "user", "content": text})
    params = {"temperature": temperature, "max_tokens": max_tokens}
    kwargs: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
    if fallback:
        kwargs["fallback_model"] = fallback
    response = asyncio.run(_answer(model, messages, stream=stream and not json_output, timeout=timeout, **kwargs))
    if json_output:
        sys.stdout.write(as_json(response) + "\n")
    elif not stream:
        _write(response.content)
    for call in response.tool_calls:
        typer.echo(f"tool call: {call.name} {call.raw_arguments}", err=True)
    if not json_output:
        if not response.content.endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.flush()
    typer.echo(summary(response), err=True)


def _prompt(argument: str | None) -> str:
    if argument is not None and argument != "-":
        return argument
    if argument is None and sys.stdin.isatty():
        raise InvalidRequestError("no question: give it as an argument or on standard input")
    text = sys.stdin.read().strip()
    if not text:
        raise InvalidRequestError("standard input is empty: give a question as an argument or on standard input")
    return text


async def _answer(model: str, messages: list[dict[str, Any]], *, stream: bool, **kwargs: Any) -> LLMResponse:
    from llm_master.response_synthesizer import QueryLLM
    from llm_master.stream import LLMStream

    async with QueryLLM() as llm:
        result = await llm.query(model, messages, stream=stream, **kwargs)
        if not isinstance(result, LLMStream):
            return result
        async for text in result:
            _write(text)
        return result.response


def _write(text: str) -> None:
    # A model may say anything, terminal controls included; a terminal must not obey it.
    if sys.stdout.isatty():
        text = "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))
    sys.stdout.write(text)
    sys.stdout.flush()


def summary(response: LLMResponse) -> str:
    """One line: model, tokens, seconds, tokens a second, cost."""
    usage = response.usage
    writing = response.latency - (response.time_to_first_token or 0.0)
    parts = [
        f"{response.provider}/{response.model}",
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
        f"{response.latency:.2f} s",
    ]
    if usage.output_tokens and writing > 0:
        parts.append(f"{usage.output_tokens / writing:.1f} tokens/s")
    cost = response.cost
    parts.append("cost unknown" if cost is None else f"${cost.normalize():f}" if cost else "$0")
    if len(response.attempts) > 1:
        parts.append(f"{len(response.attempts)} attempts")
    return " | ".join(parts)


def as_json(response: LLMResponse) -> str:
    """The whole response as JSON."""
    import msgspec

    cost = response.cost
    shown = {
        "content": response.content,
        "reasoning": response.reasoning,
        "refusal": response.refusal,
        "model_name": response.model_name,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "tool_calls": [{"id": c.id, "name": c.name, "arguments": c.raw_arguments} for c in response.tool_calls],
        "usage": response.usage,
        "cost": None if cost is None else str(cost),
        "latency": round(response.latency, 4),
        "time_to_first_token": response.time_to_first_token,
        "request_id": response.request_id,
        "dropped": response.dropped,
        "notes": response.notes,
        "attempts": response.attempts,
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()
