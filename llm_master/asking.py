"""
What a call beside chat asks: its arguments, checked, for the call itself and for what explains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llm_master.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ASKINGS", "MODERATION_MODEL", "Asking", "embed", "moderate", "parted", "rerank", "speak", "transcribe"]

#: The model that ``moderate`` and ``moderation=True`` ask.
MODERATION_MODEL = "omni-moderation-latest"
# Options of a call that are none of the provider's parameters; see ``QueryLLM.query``.
_OPTIONS = ("timeout", "max_attempts", "fallback_on", "tags", "limit_wait", "max_cost", "drop_params")
# Those that only ``query`` has: a provider would be sent them as parameters.
_OF_QUERY = ("api", "cache", "hedge_after", "moderation", "on_interrupt", "repairs", "use_prompt_caching")


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


def parted(call: str, model_name: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The options of a call, and what is left: its fallbacks, headers and parameters.

    Args:
        call: the method's name.

    Raises:
        InvalidRequestError: an option that only ``query`` has.
    """
    for name in _OF_QUERY:
        if name in given:
            raise InvalidRequestError(f"{call} of {model_name!r}: {name}= is an option of query() alone; leave it out")
    options = {name: given[name] for name in _OPTIONS if given.get(name) is not None}
    return options, {name: value for name, value in given.items() if name not in _OPTIONS}


def counted(engine: Any, model_name: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of ``QueryLLM.count_tokens``, and the question's headers and parameters; raises as ``parted``."""
    options, params = parted("count_tokens", model_name, given)
    if "tools" in params or "response_format" in params:
        params = engine.shaped(params)[0]
    if params:
        engine.check_params(model_name, params)
    return options, params


def embed(model_name: str, input: Any, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.embed``; raises InvalidRequestError, as all here."""
    texts = _texts(input, "input", model_name)
    _whole("dimensions", options.get("dimensions"), model_name)
    return Asking("embed", model_name, texts, options, texts)


def rerank(model_name: str, query: Any, documents: Any, *, top_n: int | None = None, **options: Any) -> Asking:
    """The arguments of ``QueryLLM.rerank``."""
    (asked,) = _texts(query if isinstance(query, str) else [query], "query", model_name)
    if isinstance(documents, str):
        raise InvalidRequestError(f"documents for {model_name!r} is one text; give a list of texts")
    texts = _texts(documents, "documents", model_name)
    _whole("top_n", top_n, model_name)
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


def _whole(name: str, value: Any, model_name: str) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidRequestError(f"{name}={value!r} for {model_name!r}: give a whole number of at least 1, or None")


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
