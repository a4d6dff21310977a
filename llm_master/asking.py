"""
What a call beside chat asks: its arguments, checked, for the call itself and for what explains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ASKINGS", "MODERATION_MODEL", "OPTIONS", "Asking", "embed", "moderate", "rerank", "speak", "transcribe"]

#: The model that ``moderate`` and ``moderation=True`` ask.
MODERATION_MODEL = "omni-moderation-latest"
#: Options of a call that are none of the provider's parameters; see ``QueryLLM.query``.
OPTIONS = ("timeout", "max_attempts", "fallback_on", "tags", "limit_wait")


class Asking(NamedTuple):
    """
    What is asked of a model.

    Attributes:
        name: the operation; payload: what it works on: texts, a query and documents, a recording as it was given.
        given: options of the call and parameters for the provider.
        weighed: the texts that limits of tokens count.
        stream: whether the answer is to come piece by piece.
    """

    name: str
    model_name: str
    payload: Any
    given: dict[str, Any]
    weighed: Sequence[str] = ()
    stream: bool = False


def embed(model_name: str, input: Any, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.embed``; raises InvalidRequestError, as all here."""
    texts = _texts(input, "input", model_name)
    return Asking("embed", model_name, texts, options, texts)


def rerank(model_name: str, query: Any, documents: Any, *, top_n: int | None = None, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.rerank``."""
    (asked,) = _texts(query if isinstance(query, str) else [query], "query", model_name)
    if isinstance(documents, str):
        raise InvalidRequestError(f"documents for {model_name!r} is one text; give a list of texts")
    texts = _texts(documents, "documents", model_name)
    if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 1):
        raise InvalidRequestError(f"top_n={top_n!r} for {model_name!r}: give a whole number of at least 1, or None")
    given = options if top_n is None else {**options, "top_n": top_n}
    return Asking("rerank", model_name, (asked, texts), given, [asked, *texts])


def moderate(model_name: str, input: Any, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.moderate``."""
    parts = isinstance(input, list) and bool(input) and all(isinstance(each, dict) for each in input)
    texts: list[Any] = input if parts else _texts(input, "input", model_name)
    return Asking("moderate", model_name, texts, options, [each for each in texts if isinstance(each, str)])


def transcribe(model_name: str, audio: Any, *, stream: bool = False, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.transcribe``; the recording is not read."""
    given = {name: value for name, value in options.items() if value is not None or name not in _OF_RECORDINGS}
    return Asking("transcribe", model_name, audio, given, stream=bool(stream))


def speak(
    model_name: str, text: Any, *, voice: Any, format: str | None = None, stream: bool = False, **options: Any
) -> Asking:
    """The arguments of ``QueryLLM.speak``."""
    (said,) = _texts(text if isinstance(text, str) else [text], "text", model_name)
    if not isinstance(voice, (str, dict)) or not voice:
        raise InvalidRequestError(f"voice={voice!r} for {model_name!r}: name one of the model's voices")
    given = {**options, "voice": voice, **({} if format is None else {"response_format": format})}
    return Asking("speak", model_name, said, given, [said], bool(stream))


#: Method of the client -> what reads its arguments.
ASKINGS: dict[str, Callable[..., Asking]] = {
    "embed": embed,
    "rerank": rerank,
    "moderate": moderate,
    "transcribe": transcribe,
    "speak": speak,
}

# Arguments of ``transcribe`` that say nothing when they are None.
_OF_RECORDINGS = ("language", "prompt", "response_format")


def _texts(given: Any, what: str, model_name: str) -> list[str]:
    """A text, or several, as a list; raises InvalidRequestError for none, an empty one, or something else."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not texts:
        raise InvalidRequestError(f"{what} for {model_name!r} must be a text or a list of texts that is not empty")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            place = what if given is text or len(texts) == 1 else f"{what}[{index}]"
            raise InvalidRequestError(f"{place} for {model_name!r} must be a text that is not empty")
    return list(texts)
