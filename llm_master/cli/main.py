"""
The command ``llm-master`` and what its errors look like.

Exit codes: 0 done, 1 a provider failed, 2 wrong input or set-up, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llm_master.cli import ask as _ask
from llm_master.cli import doctor as _doctor
from llm_master.cli import lists as _lists
from llm_master.errors import ConfigurationError, InvalidRequestError, LLMError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

app = typer.Typer(
    name="llm-master",
    help="One command for any language model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from llm_master import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every attempt.")] = False,
    version: Annotated[  # noqa: ARG001  # its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
        logging.getLogger("asyncio").setLevel(logging.INFO)


app.command("ask")(_ask.ask)
app.command("models")(_lists.models)
app.command("providers")(_lists.providers)
app.command("doctor")(_doctor.doctor)

_WRONG_INPUT = (ConfigurationError, InvalidRequestError, ModelNotFoundError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:  # it may stand anywhere; typer wants it before the command
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    try:
        code = app(args=arguments, prog_name="llm-master", standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except LLMError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        return 2 if isinstance(error, _WRONG_INPUT) else 1
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of the parser
            error.show()
            return int(error.exit_code)
        if debug:
            raise
        typer.echo(f"error: {type(error).__name__}: {error}; run again with --debug for the traceback", err=True)
        return 1
    return int(code or 0)


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
