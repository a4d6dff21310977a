"""
``llm-master explain``: what a call would do, without making it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_master.cli.ask import _messages, _prompt
from llm_master.cli.complete import complete_model
from llm_master.cli.dry import show
from llm_master.cli.options import Fallback, System
from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from llm_master.response_synthesizer import QueryLLM

__all__ = ["explain"]

_QUESTION = "Hello?"


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model.", autocompletion=complete_model)],
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help=f"The question; - reads it from standard input; {_QUESTION} if left out."
        ),
    ] = None,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME=VALUE", help="A parameter; VALUE is JSON or text; may be repeated."
        ),
    ] = None,
    system: System = None,
    stream: Annotated[bool, typer.Option("--stream", help="Explain a streamed call.")] = False,
    fallback: Fallback = None,
    api: Annotated[
        str | None, typer.Option("--api", metavar="NAME", help="An API family: chat, messages, responses ...")
    ] = None,
    drop_params: Annotated[
        bool, typer.Option("--drop-params", help="Leave out parameters that the model cannot take.")
    ] = False,
    settings: Annotated[str | None, typer.Option("--settings", metavar="FILE", help="A settings file.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Show what a call would do.

    The route and why, address, headers (secrets as ***), body, what became of each parameter, tokens, the cost at most,
    limits and times. Nothing is sent. The exit code is 2 when the call could not be made as things stand.
    """
    messages = _messages(_QUESTION if prompt is None else _prompt(prompt), system, [])
    kwargs: dict[str, Any] = {"stream": stream, **_params(param or [])}
    if fallback:
        kwargs["fallback_model"] = fallback
    if api is not None:
        kwargs["api"] = api
    if drop_params:
        kwargs["drop_params"] = True
    show(_client(settings).explain(model, messages, **kwargs), json_output=json_output)


def _client(settings: str | None) -> QueryLLM:
    from llm_master.response_synthesizer import QueryLLM

    return QueryLLM() if settings is None else QueryLLM.from_file(settings)


def _params(given: list[str]) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidRequestError(f"--param {each!r} is not NAME=VALUE, such as --param temperature=0.2")
        try:
            found[name] = msgspec.json.decode(text.encode("utf-8", "surrogateescape"))
        except msgspec.DecodeError:
            found[name] = text
    return found
