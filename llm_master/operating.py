"""
One request beside chat: its address, its body and its answer, the same way for every operation.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from llm_master.addresses import base_url, given_url
from llm_master.bodies import UNREADABLE, amount_of, walk
from llm_master.endpoint import Endpoint
from llm_master.errors import (
    ConfigurationError,
    InvalidRequestError,
    ProviderError,
    ResponseError,
    UnsupportedParameterError,
)
from llm_master.families import FAMILIES
from llm_master.inlining import encode_inlined
from llm_master.media import FetchNeededError
from llm_master.operations import FORMS, NOUNS, Operation, not_served, operation_of
from llm_master.redaction import redact
from llm_master.target import Target

if TYPE_CHECKING:
    import aiohttp

    from llm_master.classes import Request
    from llm_master.incoming import OpenStream

__all__ = ["check_streams", "encoded", "open_operation", "operate", "operation_at", "placed", "question", "written"]


def operation_at(target: Any, name: str) -> Operation:
    """
    How a target serves an operation.

    Raises:
        ConfigurationError: it does not; the error names the providers that do.
    """
    found = operation_of(target.row, name) if isinstance(target, Target) else None
    if found is None:
        raise not_served(target.provider, name, target.model)
    if found.models and not any(part in target.model.lower() for part in found.models):
        raise ConfigurationError(
            f"{target.provider} gives {NOUNS[name]} in a form that is known here for the models"
            f" {', '.join(found.models)} only, not for {target.model!r}; name one of those"
        )
    return found.for_model(target.model)


async def operate(target: Any, name: str, payload: Any, request: Request, timeout: aiohttp.ClientTimeout) -> Any:
    """
    One request and its decoded answer.

    Raises:
        ProviderError: typed by what the answer's body, then its status, says.
        ConfigurationError: the provider does not serve it, or its address is not of that kind.
        InvalidRequestError: the provider cannot take what is asked.
    """
    operation = operation_at(target, name)
    via: Target = target.sibling(operation.family or target.row.families[0])
    if name == "count":
        payload = await _countable(via, operation, request, timeout)
    own = await via.endpoint(request.headers, timeout.total)
    endpoint, body = written(via, operation, (name, payload), request, own)
    answer = await via.post(endpoint, body, timeout, request)
    try:
        response = _module(name, operation).decode(answer.body, answer.headers, payload, request)
    except ProviderError as error:
        raise via.masked(error) from error.__cause__
    if name == "count":
        if target.heed is not None:
            target.heed(answer.headers)
    else:
        _count_text(name, payload, response)
        if operation.cost is not None:
            response.reported_cost = _reported(answer.body, operation.cost)
        target.complete(response, answer.headers)
    return response


def _reported(body: bytes, path: str) -> Any:
    """USD at a path of a JSON body, None for none; the vectors beside it are not read again."""
    head, _, rest = path.partition(".")
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get(head)
        value = None if found is None else msgspec.json.decode(found)
    except UNREADABLE:
        return None
    return amount_of(walk(value, tuple(rest.split("."))) if rest else value)


def _count_text(name: str, payload: Any, response: Any) -> None:
    """Speech is billed by the characters of its text, which no answer tells."""
    if name == "speak" and isinstance(payload, str):
        response.billed = {"characters": len(payload)}


async def open_operation(
    target: Any, name: str, payload: Any, request: Request, timeout: aiohttp.ClientTimeout
) -> tuple[OpenStream, tuple[Any, Any]]:
    """
    One request whose answer is read piece by piece.

    Returns:
        The open stream; what folds its bytes, None where the server gave the whole answer at once; and what decodes
        that.

    Raises:
        UnsupportedParameterError: the provider does not stream this.
        LLMError: as ``operate``.
    """
    operation = operation_at(target, name)
    check_streams(target, name, operation)
    via: Target = target.sibling(operation.family or target.row.families[0])
    own = await via.endpoint(request.headers, timeout.total)
    endpoint, body = written(via, operation, (name, payload), request, own)
    stream = await via.opened(endpoint, body, timeout, request)
    module = _module(name, operation)

    def decode(data: bytes, headers: Any) -> Any:
        try:
            response = module.decode(data, headers, payload, request)
        except ProviderError as error:
            raise via.masked(error) from error.__cause__
        _count_text(name, payload, response)
        target.complete(response, headers)
        return response

    kind = stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "event-stream" not in kind:
        stream.binary()
    return stream, (module.fold(kind, request, framed=stream.framed, rules=via.row.error_codes), decode)


def check_streams(target: Any, name: str, operation: Operation) -> None:
    """Refuse to stream what a provider gives as a whole only; raises UnsupportedParameterError."""
    if operation.stream is None:
        raise UnsupportedParameterError(
            f"{target.provider} gives {NOUNS[name]} of {target.model!r} as a whole; call it without stream=True",
            parameter="stream",
        )


def written(
    via: Target, operation: Operation, asked: tuple[str, Any], request: Request, endpoint: Endpoint
) -> tuple[Endpoint, bytes]:
    """
    Where a request goes, with all its headers, and its body; nothing is sent.

    Args:
        asked: name of the operation, and what it works on.
        endpoint: of the family's own requests.

    Raises:
        LLMError: as ``operate``.
    """
    body, headers = encoded(via, operation, asked, request)
    there = placed(via, operation, endpoint)
    return (there.with_headers(headers) if headers else there), body


def encoded(
    via: Target, operation: Operation, asked: tuple[str, Any], request: Request
) -> tuple[bytes, dict[str, str]]:
    """The body of a request and the headers that it needs of its own; as ``written`` for a place not known yet."""
    if not operation.prefix:
        request.model = request.model.removeprefix(via.row.model_prefix)
    name, payload = asked
    return _module(name, operation).encode(payload, request, operation)  # type: ignore[no-any-return]  # as all encode


def _module(name: str, operation: Operation) -> Any:
    return importlib.import_module(FORMS[name][operation.form])


def placed(via: Target, operation: Operation, endpoint: Endpoint) -> Endpoint:
    """Where an operation's requests go; ``endpoint`` is of the family's own, and it raises as ``operate``."""
    given = given_url(via.row, via.config)
    path = operation.path if given is None or operation.own_path is None else operation.own_path
    path = _filled(path, via.model) if "{" in path else path
    if operation.root:
        return endpoint.at(str(endpoint.url.origin()) + path)
    url = operation.urls.get(max((part for part in operation.urls if part in via.model), key=len, default=""))
    if url is None or given is not None:
        return endpoint.at(_beside(via, endpoint, path))
    # A host of the provider's own beside the one of its chat, as its data says.
    return Endpoint(url + path, endpoint.headers, provider=via.provider, model=via.model, secrets=endpoint.secrets)


def _beside(via: Target, endpoint: Endpoint, route: str) -> str:
    """The address of another route of the same API."""
    row = via.row
    given = given_url(row, via.config)
    own = importlib.import_module(FAMILIES[via.family][0]).PATH
    path = row.paths.get(via.family, own)
    # A server of ours has an address once it runs; an empty path means that the row itself holds a full endpoint.
    if not via.supervised and path != "" and not (given is not None and given[1]):
        return base_url(row, via.config, family=via.family) + route
    # An older address of Azure has its version in the query.
    url, mark, query = str(endpoint.url).partition("?")
    end = path or own
    if url.endswith(route):
        return str(endpoint.url)
    if not isinstance(end, str) or not url.endswith(end):
        raise ConfigurationError(
            f"{via.provider} has a full endpoint, {redact(url)}, and {via.model!r} needs another route of it;"
            f" set a base URL ({via.provider.upper()}_BASE_URL) instead"
        )
    return url.removesuffix(end) + route + mark + query


def _filled(path: str, model: str) -> str:
    name = model.removeprefix("models/")
    publisher = "google"
    if "{publisher}" in path and "/" in name:
        publisher, _, name = name.removeprefix("publishers/").replace("/models/", "/").partition("/")
    if any(step in ("", ".", "..") for step in (publisher, *name.split("/"))):
        raise InvalidRequestError(f"{model!r} is no model's name; give one such as 'gemini-embedding-001'")
    path = path.replace("{id}", quote(model, safe="-._~")).replace("{slug}", quote(name.replace(".", "_"), safe="/-_~"))
    return path.replace("{publisher}", quote(publisher, safe="")).replace("{model}", quote(name, safe="/@-._~"))


async def _countable(via: Target, operation: Operation, request: Request, timeout: aiohttp.ClientTimeout) -> Any:
    """What a count is made of: the family's chat body, or the prompt that the server makes of the messages."""
    if operation.template is None:
        try:
            body = via.encode(request)
        except FetchNeededError as needed:
            body, _ = await encode_inlined(via, request, needed, timeout)
        return msgspec.json.decode(body)
    endpoint = await via.endpoint(request.headers, timeout.total)
    there = endpoint.at(str(endpoint.url.origin()) + operation.template)
    answer = await via.post(there, question(request), timeout, request)
    try:
        return msgspec.json.decode(answer.body, type=dict[str, str])["prompt"]
    except (*UNREADABLE, KeyError) as error:
        raise ResponseError(
            f"{via.provider} made no prompt of the messages for {via.model!r}; check the base URL",
            provider=via.provider,
            model=via.model,
        ) from error


def question(request: Request) -> bytes:
    """What a server is sent that makes a prompt of messages."""
    return msgspec.json.encode({"messages": request.messages, **request.params})
