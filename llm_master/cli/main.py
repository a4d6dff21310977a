"""
The command ``llm-master``: where it starts, its exit codes and what its errors look like.

Exit codes: 0 done, 1 a provider failed, 2 wrong input or set-up, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_FAILED, _WRONG, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Args:
        argv: the arguments after the command's name; None takes those of the process.

    Returns:
        The exit code.
    """
    # Everything is imported inside, so that Ctrl-C is quiet from the first moment on.
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _main(arguments: list[str]) -> int:
    from llm_master.cli.terminal import abandon, prepare, tell
    from llm_master.errors import ConfigurationError, InvalidRequestError, LLMError, ModelNotFoundError

    prepare()
    debug, arguments = _take_debug(arguments)
    _set_up_logging(debug=debug)
    try:
        from llm_master.cli.app import run

        return run(arguments)
    except LLMError as error:
        if debug:
            raise
        tell(f"error: {error}")
        return _WRONG if isinstance(error, (ConfigurationError, InvalidRequestError, ModelNotFoundError)) else _FAILED
    except BrokenPipeError:
        # The reader has had enough, as in `llm-master models | head`.
        abandon(sys.stdout)
        return 0
    except OSError as error:
        if debug:
            raise
        abandon(sys.stdout)
        tell(f"error: {error.strerror or error}")
        return _FAILED
    except Exception as error:
        if debug:
            raise
        tell(f"error: {type(error).__name__}: {error}; run again with --debug for the traceback")
        return _FAILED


def _take_debug(arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether ``--debug`` stands anywhere before ``--``, and the arguments without it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [each for each in arguments[:end] if each != "--debug"]
    return len(options) < end, options + arguments[end:]


def _set_up_logging(*, debug: bool) -> None:
    import logging

    logger = logging.getLogger("llm_master")
    if not debug:
        logger.addHandler(logging.NullHandler())  # the error line says it; a log record would say it twice
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


if __name__ == "__main__":
    sys.exit(main())
