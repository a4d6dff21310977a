"""
One request beside chat: its address, its body and its answer, the same way for every operation.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from llm_master.addresses import base_url, given_url
from llm_master.endpoint import Endpoint
from llm_master.errors import ConfigurationError, InvalidRequestError, ProviderError, ResponseError
from llm_master.families import FAMILIES
from llm_master.operations import FORMS, Operation, not_served, operation_of
from llm_master.redaction import redact
from llm_master.target import Target

if TYPE_CHECKING:
    import aiohttp

    from llm_master.classes import Request

__all__ = ["operate", "operation_at"]


def operation_at(target: Any, name: str) -> Operation:
    """
    How a target serves an operation.

    Raises:
        ConfigurationError: it does not; the error names the providers that do.
    """
    found = operation_of(target.row, name) if isinstance(target, Target) else None
    if found is None:
        raise not_served(target.provider, name, target.model)
    return found


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
    module = importlib.import_module(FORMS[name][operation.form])
    if name == "count":
        payload = await _countable(via, operation, request, timeout)
    body, headers = module.encode(payload, request, operation)
    endpoint = _there(via, operation, await via.endpoint(request.headers, timeout.total), operation.path)
    answer = await via.post(endpoint.with_headers(headers) if headers else endpoint, body, timeout)
    try:
        response = module.decode(answer.body, answer.headers, payload, request)
    except ProviderError as error:
        raise via.masked(error) from error.__cause__
    if name == "count":
        if target.heed is not None:
            target.heed(answer.headers)
    else:
        target.complete(response, answer.headers)
    return response


def _there(via: Target, operation: Operation, endpoint: Endpoint, path: str) -> Endpoint:
    path = _filled(path, via.model) if "{" in path else path
    if operation.root:
        return endpoint.at(str(endpoint.url.origin()) + path)
    url = operation.urls.get(max((part for part in operation.urls if part in via.model), key=len, default=""))
    if url is None or given_url(via.row, via.config) is not None:
        return endpoint.at(_base(via, endpoint) + path)
    # A host of the provider's own beside the one of its chat, as its data says.
    return Endpoint(url + path, endpoint.headers, provider=via.provider, model=via.model, secrets=endpoint.secrets)


def _base(via: Target, endpoint: Endpoint) -> str:
    """The address below which the other routes of the same API are."""
    row = via.row
    given = given_url(row, via.config)
    own = importlib.import_module(FAMILIES[via.family][0]).PATH
    path = row.paths.get(via.family, own)
    # A server of ours has an address once it runs; an empty path means that the row itself holds a full endpoint.
    if not via.supervised and path != "" and not (given is not None and given[1]):
        return base_url(row, via.config, family=via.family)
    url, end = str(endpoint.url), path or own
    if not isinstance(end, str) or not url.endswith(end):
        raise ConfigurationError(
            f"{via.provider} has a full endpoint, {redact(url)}, and {via.model!r} needs another route of it;"
            f" set a base URL ({via.provider.upper()}_BASE_URL) instead"
        )
    return url.removesuffix(end)


def _filled(path: str, model: str) -> str:
    name = model.removeprefix("models/")
    publisher = "google"
    if "{publisher}" in path and "/" in name:
        publisher, _, name = name.removeprefix("publishers/").replace("/models/", "/").partition("/")
    if any(step in ("", ".", "..") for step in (publisher, *name.split("/"))):
        raise InvalidRequestError(f"{model!r} is no model's name; give one such as 'gemini-embedding-001'")
    return path.replace("{publisher}", quote(publisher, safe="")).replace("{model}", quote(name, safe="/@-._~"))


async def _countable(via: Target, operation: Operation, request: Request, timeout: aiohttp.ClientTimeout) -> Any:
    """What a count is made of: the family's chat body, or the prompt that the server makes of the messages."""
    if operation.template is None:
        return msgspec.json.decode(via.encode(request))
    endpoint = await via.endpoint(request.headers, timeout.total)
    there = endpoint.at(str(endpoint.url.origin()) + operation.template)
    body = {"messages": request.messages, **request.params}
    answer = await via.post(there, msgspec.json.encode(body), timeout)
    try:
        return msgspec.json.decode(answer.body, type=dict[str, str])["prompt"]
    except (msgspec.DecodeError, KeyError) as error:
        raise ResponseError(
            f"{via.provider} made no prompt of the messages for {via.model!r}; check the base URL",
            provider=via.provider,
            model=via.model,
        ) from error
