"""
What a provider serves beside chat, on which path and in which form, as data.

The shipped facts stand in ``catalogue/operations.json``. A row of the user's own may bring ``operations`` in the same
shape; one that brings none is taken for an OpenAI-compatible server that has all of the usual routes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.built import build
from llm_master.catalogue import load_operations
from llm_master.classify import excerpt
from llm_master.errors import ConfigurationError, InvalidRequestError, ResponseError, UnsupportedParameterError

if TYPE_CHECKING:
    from llm_master.classes import Request
    from llm_master.rows import ProviderRow

__all__ = ["FORMS", "NOUNS", "Name", "Operation", "not_served", "operation_of", "provider_params", "serving"]
__all__ += ["miscounted", "read_body", "unreadable"]

Name = Literal["embed", "rerank", "transcribe", "speak", "moderate", "count"]

#: Operation -> what it gives, for messages.
NOUNS: dict[str, str] = {
    "embed": "embeddings",
    "rerank": "ranking of documents",
    "transcribe": "transcripts of sound",
    "speak": "speech",
    "moderate": "moderation",
    "count": "counts of tokens",
}

#: Operation -> form -> the module that writes and reads it.
FORMS: dict[str, dict[str, str]] = {
    "embed": {
        "openai": "llm_master.wire.openai_embeddings",
        "gemini": "llm_master.wire.gemini_embeddings",
        "vertex": "llm_master.wire.vertex_embeddings",
        "cohere": "llm_master.wire.cohere_embeddings",
        "int8": "llm_master.wire.openai_embeddings_int8",
        "titan": "llm_master.wire.bedrock_titan",
        "bedrock_cohere": "llm_master.wire.bedrock_cohere",
        "nova": "llm_master.wire.bedrock_nova",
    },
    "rerank": {"cohere": "llm_master.wire.rerank", "nvidia": "llm_master.wire.rerank_nvidia"},
    "transcribe": {"openai": "llm_master.wire.openai_audio_transcription"},
    "speak": {"openai": "llm_master.wire.openai_audio_speech"},
    "moderate": {"openai": "llm_master.wire.moderations"},
    "count": dict.fromkeys(
        ("anthropic", "responses", "gemini", "vertex", "cohere", "vllm", "llamacpp"), "llm_master.wire.token_counts"
    ),
}


class Operation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one provider serves one operation.

    Attributes:
        path: what follows the base URL of ``family``; ``{model}`` in it is the model, ``{publisher}`` its publisher,
            ``{id}`` the model as one step of the path, slashes and all, ``{slug}`` the model with underscores for dots.
        own_path: the path at an address that the user set, where it is another.
        form: a key of ``FORMS``.
        family: whose base URL and key are used, None for the row's first; a count takes this family's chat body.
        urls: part of a model's name (``""``: any) -> base URL, where the operation lives on a host of its own; the
            longest part wins, and an address that the user set comes first.
        root: whether the path follows the host instead of the base URL.
        template: path of the route that makes a prompt of messages, asked before a count.
        inputs: texts or documents of one request at most; tokens: their tokens together, as estimated.
        bytes: size of a recording at most.
        rename: parameter -> the name this provider wants.
        words: parameter -> our word -> the provider's: ``{"input_type": {"query": "search_query"}}``.
        defaults: fields sent unless the caller gives them.
        drop: parameters that this provider does not know; one that is given is an UnsupportedParameterError.
        models: parts of the names of the models that are served so; (): whatever the name, the provider decides.
        prefix: whether the row's ``model_prefix`` stands before the name that is sent.
        stream: fields that ask for the answer piece by piece; None: the provider documents no such thing.
        brackets: whether a list in a form is sent as ``name[]``.
        per_model: part of a model's name -> fields that replace these; the longest part that occurs wins.
        cost: dotted path in the body of the USD that the provider reports, None where it reports none.
    """

    path: str
    own_path: str | None = None
    form: str = "openai"
    family: str | None = None
    urls: dict[str, str] = {}
    root: bool = False
    template: str | None = None
    inputs: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    rename: dict[str, str] = {}
    words: dict[str, dict[str, str]] = {}
    defaults: dict[str, Any] = {}
    drop: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    prefix: bool = True
    stream: dict[str, Any] | None = None
    brackets: bool = True
    per_model: dict[str, dict[str, Any]] = {}
    cost: str | None = None

    def __post_init__(self) -> None:
        for override in self.per_model.values():
            msgspec.convert({"path": self.path, **override}, Operation)

    def for_model(self, model: str) -> Operation:
        """The operation as it holds for one model, without regard to case."""
        name = model.lower()
        part = max((part for part in self.per_model if part in name), key=len, default=None)
        if part is None:
            return self
        override = self.per_model[part]
        checked = msgspec.convert({"path": self.path, **override}, Operation)
        return msgspec.structs.replace(self, per_model={}, **{field: getattr(checked, field) for field in override})

    def forms(self) -> set[str]:
        """Every form that it has for some model."""
        return {self.form, *(override["form"] for override in self.per_model.values() if "form" in override)}


#: What a server that says nothing of itself is taken to serve.
_USUAL: dict[str, Operation] = {
    "embed": Operation(path="/embeddings", inputs=2048),
    "rerank": Operation(path="/rerank", form="cohere"),
    "transcribe": Operation(path="/audio/transcriptions", stream={"stream": True}),
    "speak": Operation(path="/audio/speech", stream={}),
    "moderate": Operation(path="/moderations"),
}

_META = ("source", "checked")


@cache
def _shipped() -> dict[str, dict[str, Operation]]:
    return {provider: _parsed(provider, entry) for provider, entry in load_operations().items()}


def _parsed(provider: str, entry: dict[str, Any]) -> dict[str, Operation]:
    given = {name: each for name, each in entry.items() if name not in _META}
    try:
        found = msgspec.convert(given, dict[Name, Operation])
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"provider {provider!r}: its operations are wrong: {error}; correct them") from error
    for name, operation in found.items():
        for form in sorted(operation.forms() - FORMS[name].keys()):
            raise ConfigurationError(
                f"provider {provider!r}: form {form!r} of {name} is none of {', '.join(FORMS[name])}"
            )
    return {str(name): operation for name, operation in found.items()}


def operation_of(row: ProviderRow, name: str) -> Operation | None:
    """
    How a row serves an operation, None when it does not.

    Raises:
        ConfigurationError: the row's own ``operations`` are wrong.
    """
    if row.operations is not None:
        return _parsed(row.name, row.operations).get(name)
    shipped = _shipped().get(row.name)
    if shipped is not None:
        return shipped.get(name)
    # A shipped row has a source, one of the user's own has none.
    return None if row.source or row.families[0] != "openai_chat" else _USUAL.get(name)


def serving(name: str) -> tuple[str, ...]:
    """The shipped providers that serve an operation, sorted."""
    return tuple(sorted(provider for provider, found in _shipped().items() if name in found))


def not_served(provider: str, name: str, model: str) -> ConfigurationError:
    """The error for a provider without the operation; it names those that have it."""
    return ConfigurationError(
        f"{provider} serves no {NOUNS[name]}, so {model!r} cannot be used for that;"
        f" these do: {', '.join(serving(name))}"
    )


def provider_params(operation: Operation, request: Request) -> dict[str, Any]:
    """
    A call's parameters in the provider's names and words, on top of what is sent anyway.

    With ``drop_params`` one that the provider does not know is left out, and noted in the request.

    Raises:
        UnsupportedParameterError: the provider does not know one of them.
        InvalidRequestError: a word that the provider has no counterpart for.
    """
    found = dict(operation.defaults)
    if request.stream and operation.stream is not None:
        found.update(operation.stream)
    for name, value in request.params.items():
        if value is None:
            continue
        if name in operation.drop and request.drop_params:
            request.dropped = (*request.dropped, name)
            continue
        if name in operation.drop:
            raise UnsupportedParameterError(
                f"{request.provider} does not take {name}= for {request.model!r}; leave it out, or pass"
                " drop_params=True",
                parameter=name,
            )
        words = operation.words.get(name, {})
        # The provider's own words are taken too.
        if words and value not in (*words, *words.values()):
            accepted = ", ".join(repr(word) for word in words)
            raise InvalidRequestError(
                f"{name}={value!r} is not known to {request.provider} for {request.model!r}; give {accepted}"
            )
        found[operation.rename.get(name, name)] = words.get(value, value) if words else value
    return found


def read_body(
    decoder: Any, body: bytes, what: str, request: Request, *odd: tuple[type, tuple[str, ...]]
) -> tuple[Any, tuple[str, ...]]:
    """
    What a decoder makes of an answer, and the notes on it.

    Args:
        what: what was asked for, for messages.
        odd: how a usage is read, and where it stands; one of another shape is read as far as it can be, and noted.

    Raises:
        ResponseError: it cannot be read.
    """
    try:
        return decoder.decode(body), ()
    except UNREADABLE as error:
        for shape, place in odd:
            answer = mended(decoder, body, error, shape, place)
            if answer is not None:
                return answer, (ODD_USAGE,)
        raise unreadable(body, what, request) from error


def unreadable(body: bytes, what: str, request: Request) -> ResponseError:
    """The error for an answer that is not ``what`` was asked for."""
    return ResponseError(
        f"{request.provider} answered {request.model!r} with something that is no {what}: {excerpt(body)};"
        " check the base URL",
        provider=request.provider,
        model=request.model,
    )


def miscounted(found: int, expected: int, what: str, request: Request) -> ResponseError:
    """The error for an answer with too much or too little in it."""
    return ResponseError(
        f"{request.provider} gave {found} {what} for {expected} inputs with {request.model!r}; try again",
        provider=request.provider,
        model=request.model,
    )


build(Operation)
