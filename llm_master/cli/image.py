"""
``llm-master image``: a prompt drawn into files, whose names alone go to stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_master.cli.ask import summary
from llm_master.cli.complete import complete_model
from llm_master.cli.terminal import tell
from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from llm_master.classes import LLMResponse
    from llm_master.events import CallEvent

__all__ = ["image"]


def image(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    *,
    model: Annotated[
        str,
        typer.Option(
            *("--model", "-m"),
            metavar="NAME",
            help="A model that draws: gpt-image-2, flux-pro-1.1, provider/model.",
            autocompletion=complete_model,
            envvar="LLM_MASTER_IMAGE_MODEL",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; several images get -1, -2 and so on.")
    ] = "image.png",
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many images.")] = 1,
    size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="Pixels: 1024x768.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="PATH", help="A picture to change, as a file or a URL; may be repeated."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter of the model's; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Time for the call.")] = None,
) -> None:
    """
    Draw an image.

    The names of the files go to standard output; progress, and one line about the call, to standard error.
    """
    if not prompt.strip():
        raise InvalidRequestError("the prompt is empty: say what to draw")
    params = _params(param or [])
    if count > 1:
        params["n"] = count
    for name, value in (("size", size), ("timeout", timeout)):
        if value is not None:
            params[name] = value
    path = Path(output).expanduser()
    if path.is_dir():
        path /= "image.png"
    # Before anything is paid for.
    _check(_names(path, count), force=force)
    import asyncio

    response = asyncio.run(_drawn(model, _messages(prompt, source or []), params, path, force=force))
    tell(summary(response))


def _params(given: list[str]) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise InvalidRequestError(f"--param {each!r}: write NAME=VALUE, such as quality=high")
        try:
            found[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name] = text
    return found


def _messages(prompt: str, sources: list[str]) -> list[dict[str, Any]]:
    if not sources:
        return [{"role": "user", "content": prompt}]
    remote = ("http://", "https://", "data:")
    images = [each if each.lower().startswith(remote) else Path(each).expanduser() for each in sources]
    return [{"role": "user", "text": prompt, "images": images}]


def _names(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def _check(paths: list[Path], *, force: bool) -> None:
    if not paths[0].parent.is_dir():
        raise InvalidRequestError(f"there is no folder {str(paths[0].parent)!r}; make it first")
    taken = [path for path in paths if path.exists()]
    if taken and not force:
        raise InvalidRequestError(f"{taken[0]} exists; --force overwrites it, or give another name with -o")


async def _drawn(
    model: str, messages: list[dict[str, Any]], params: dict[str, Any], path: Path, *, force: bool
) -> LLMResponse:
    import asyncio

    from llm_master.response_synthesizer import QueryLLM
    from llm_master.saving import picture, write_new

    async with QueryLLM() as llm:
        llm.on_event(_Progress())
        response: LLMResponse = await llm.query(model, messages, **params)
    if not response.images:
        raise InvalidRequestError(
            f"{model} answered with text and no image: {response.content[:200]}; name another model"
        )
    pictures = await asyncio.gather(*(picture(each) for each in response.images))
    paths = _names(path, len(pictures))
    _check(paths, force=force)
    for target, data in zip(paths, pictures, strict=True):
        if force:
            target.write_bytes(data)
        else:
            write_new(target, data)
        sys.stdout.write(f"{target}\n")
    sys.stdout.flush()
    return response


class _Progress:
    """Tells on stderr what happens to a call, each thing once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, event: CallEvent) -> None:
        line = self._line(event)
        if line is not None and line != self._last:
            self._last = line
            tell(line)

    @staticmethod
    def _line(event: CallEvent) -> str | None:
        who = event.target or event.model_name
        if event.name == "start":
            return f"{who}: asked"
        if event.name == "progress":
            share = "" if event.progress is None else f" {event.progress:.0%}"
            return f"{who}: {event.status}{share}"
        if event.name in ("retry", "fallback"):
            return f"{who}: {event.name} after {event.error}"
        return None
