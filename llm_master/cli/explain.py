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
_CHATS = ("query", "image", "count_tokens")
_STREAMED = ("query", "transcribe", "speak")
_CALLS = ("query", "image", "embed", "rerank", "moderate", "transcribe", "speak", "count_tokens")


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model.", autocompletion=complete_model)],
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help=f"The question; - reads it from standard input; {_QUESTION} if left out."
        ),
    ] = None,
    *,
    call: Annotated[
        str,
        typer.Option(
            "--call",
            metavar="NAME",
            help="Another call: image, embed, rerank, moderate, transcribe (PROMPT is a file), speak or count_tokens.",
        ),
    ] = "query",
    document: Annotated[
        list[str] | None,
        typer.Option("--document", metavar="TEXT", help="A document to rank with --call rerank; may be repeated."),
    ] = None,
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
    limits, budgets and times. Nothing is sent. The exit code is 2 when the call could not be made as things stand.
    """
    if call not in _CALLS:
        raise InvalidRequestError(f"--call {call!r} is no call; give one of {', '.join(_CALLS)}")
    _check(call, system=system, stream=stream, fallback=fallback, api=api, document=document)
    kwargs: dict[str, Any] = _params(param or [])
    given = {"stream": stream, "fallback_model": fallback, "api": api, "drop_params": drop_params}
    kwargs.update({name: value for name, value in given.items() if value})
    if call in _CHATS:
        subject: Any = _messages(_QUESTION if prompt is None else _prompt(prompt), system, [])
    elif call == "transcribe":
        subject = _recording(prompt)
    else:
        subject = _QUESTION if prompt is None else _prompt(prompt)
        if call == "rerank":
            kwargs.setdefault("documents", document or [_QUESTION])
        if call == "speak" and "voice" not in kwargs:
            raise InvalidRequestError("--call speak needs one of the model's voices; give -p voice=NAME")
    method = "query" if call == "image" else call
    show(_client(settings).explain(model, subject, call=method, **kwargs), json_output=json_output)


def _check(call: str, **given: Any) -> None:
    """Refuse an option that a call does not have."""
    of = {"system": _CHATS, "stream": _STREAMED, "api": ("query", "image"), "document": ("rerank",)}
    of["fallback"] = tuple(name for name in _CALLS if name != "count_tokens")
    for name, value in given.items():
        if value and call not in of[name]:
            raise InvalidRequestError(f"--{name} means nothing to --call {call}; it is for {', '.join(of[name])}")


def _recording(path: str | None) -> Any:
    if path is not None:
        return path
    # A second of silence: what is asked for is the same for any recording.
    rate = 8000
    head = b"WAVEfmt " + b"".join(
        number.to_bytes(size, "little")
        for number, size in ((16, 4), (1, 2), (1, 2), (rate, 4), (rate, 4), (1, 2), (8, 2))
    )
    data = b"data" + rate.to_bytes(4, "little") + b"\x80" * rate
    return b"RIFF" + (len(head) + len(data)).to_bytes(4, "little") + head + data


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
