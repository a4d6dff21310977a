"""
The commands and the options that they share.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llm_master.cli.ask import ask
from llm_master.cli.check import check
from llm_master.cli.doctor import doctor
from llm_master.cli.explain import explain
from llm_master.cli.image import image
from llm_master.cli.lists import providers
from llm_master.cli.logs import logs
from llm_master.cli.models import models
from llm_master.cli.usage import usage

__all__ = ["app", "run"]

app = typer.Typer(
    name="llm-master",
    help="One command for any language model.",
    epilog="Exit codes: 0 done, 1 a provider failed, 2 wrong input or set-up, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(show: bool) -> None:
    if show:
        from llm_master import __version__

        typer.echo(f"llm-master {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[  # main() takes it out before, wherever it stands; here it is for the help
        bool, typer.Option("--debug", help="Show tracebacks, and every attempt as it is made; may stand anywhere.")
    ] = False,
    version: Annotated[  # its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


for command in (ask, image, explain, models, providers, usage, logs, doctor, check):
    app.command(command.__name__)(command)


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; what the command raises comes out."""
    try:
        code = app(args=arguments, prog_name="llm-master", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        return 130
    except SystemExit as stop:  # completion is done, or the reader of our output went away
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        # The errors of the parser have no public base in every version of typer, but all of them show themselves.
        if not hasattr(error, "show"):
            raise
        error.show()
        return int(getattr(error, "exit_code", 2))
    return int(code or 0)
