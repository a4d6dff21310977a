"""
The vendors' own SDK clients, configured as LLM Master's calls are: address, headers and key of a provider's row.

Nothing of the process's environment goes with them (the packages would take keys, organisations and addresses from it
and send them to whatever server the row names), and their retries are off: a row's client makes one request a call.
"""

from __future__ import annotations

import importlib
import re
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from llm_master.errors import ConfigurationError
from llm_master.redaction import redact

if TYPE_CHECKING:
    from llm_master.target import Target

__all__ = ["close_client", "make_client"]

# What the packages send by themselves, or what their clients would add from the environment.
_OWN_HEADERS = frozenset(("content-type", "accept", "accept-encoding", "user-agent"))
_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+$")
_VERTEX = re.compile(r"(?P<base>.*)/(?P<version>v[^/]+)/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)$")


# Google's client -> the HTTP client that it was given, and so does not close.
_GIVEN: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def make_client(target: Target, client_class: Any = None) -> Any:
    """
    The client of the package that speaks a target's family.

    ``openai.AsyncOpenAI`` (``AsyncAzureOpenAI`` for an address of one deployment), ``anthropic.AsyncAnthropic``,
    ``google.genai.Client``, ``cohere.AsyncClientV2``, or the ``bedrock-runtime`` client of ``boto3``.

    Args:
        client_class: a class of the row's own, called with ``api_key``, ``base_url`` and ``max_retries``.

    Raises:
        ConfigurationError: the package is not installed, or cannot reach the address.
    """
    headers = {name: str(value) for name, value in target.headers.items() if name.lower() not in _OWN_HEADERS}
    if client_class is not None:
        base = _base(target, _ENDS.get(target.family, ""), exact=False)
        return client_class(api_key=_key(target) or "none", base_url=base, max_retries=0)
    maker = _MAKERS.get(target.family)
    if maker is None:
        raise ConfigurationError(
            f"no vendor's package speaks {target.family} of {target.provider}; call it through QueryLLM"
        )
    return maker(target, headers)


def _key(target: Target) -> str | None:
    """The key itself, as a plain string: the packages copy and compare it; None where there is none."""
    return str(target.secrets[0]) if target.key_id is not None else None


async def close_client(client: Any) -> None:
    """Close what a client holds, in whichever way its package does that."""
    several = getattr(client, "aio", None)
    if several is not None:
        await several.aclose()
        given = _GIVEN.pop(client, None)
        if given is not None:
            await given.aclose()
    close = getattr(client, "close", None)
    if close is None:
        await client.__aexit__(None, None, None)
        return
    closing = close()
    if closing is not None:
        await closing


def _package(name: str, target: Target, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"the client of {target.provider} comes from the package {install}, which is not installed: pip install"
            f" {install}"
        ) from error


# How the address of a request ends that the package itself appends to its base URL.
_ENDS = {
    "openai_chat": "/chat/completions",
    "openai_responses": "/responses",
    "openai_images": "/images/generations",
    "anthropic_messages": "/v1/messages",
    "cohere": "/v2/chat",
}


def _base(target: Target, end: str, *, exact: bool = True) -> str:
    """A target's address without what the package appends; raises ConfigurationError when that is not its end."""
    url = str(target.url)
    if exact and not url.partition("?")[0].endswith(end):
        raise ConfigurationError(
            f"the client of {target.provider} appends {end} to its base URL, so it cannot reach {redact(url)}; set"
            f" {target.provider.upper()}_BASE_URL, or call llm.query()"
        )
    return url.removesuffix(end)


def _only(headers: Mapping[str, str], names: tuple[str, ...], package: Any) -> dict[str, Any]:
    """Options of a client that sends these headers, and none of the names that are not among them."""
    given = {name.lower() for name in headers}
    taken_out = [name for name in names if name.lower() not in given]

    async def strip(request: Any) -> None:
        for name in taken_out:
            request.headers.pop(name, None)

    # The packages insist on a header for their key while they make a request, and see no sense in one without it.
    http_client = package.DefaultAsyncHttpxClient(event_hooks={"request": [strip]})
    return {"default_headers": dict(headers), "http_client": http_client, "max_retries": 0}


def _openai(target: Target, headers: dict[str, str]) -> Any:
    openai = _package("openai", target, "openai")
    base, _, query = str(target.url).partition("?")
    base = _base(target, _ENDS[target.family]) if not query else base.removesuffix(_ENDS[target.family])
    options = _only(headers, ("Authorization", "OpenAI-Organization", "OpenAI-Project"), openai)
    options["base_url"] = base
    versions = parse_qs(query).get("api-version")
    if versions and _DEPLOYMENT.search(urlsplit(base).path):
        # Where the model is the deployment the package puts it into the address.
        options["base_url"] = base.removesuffix(f"/deployments/{target.model}")
        bearer = headers.get("Authorization", "").removeprefix("Bearer ") or None
        key = {"azure_ad_token": bearer} if bearer else {"api_key": _key(target) or "none"}
        return openai.AsyncAzureOpenAI(**options, **key, api_version=versions[0])
    if query:
        options["default_query"] = {name: values[-1] for name, values in parse_qs(query).items()}
    return openai.AsyncOpenAI(api_key=_key(target) or "none", **options)


def _anthropic(target: Target, headers: dict[str, str]) -> Any:
    anthropic = _package("anthropic", target, "anthropic")
    options = _only(headers, ("Authorization", "X-Api-Key"), anthropic)
    found = _VERTEX.fullmatch(str(target.url).partition("/publishers/anthropic/models/")[0])
    if found is not None:
        place = {"project_id": found["project"], "region": found["location"]}
        base = f"{found['base']}/{found['version']}"
        return anthropic.AsyncAnthropicVertex(base_url=base, access_token=_key(target), **place, **options)
    # A key is named, so that none is looked for; what goes out is what the headers say.
    return anthropic.AsyncAnthropic(
        api_key=_key(target) or "none", base_url=_base(target, _ENDS[target.family]), **options
    )


def _gemini(target: Target, headers: dict[str, str]) -> Any:
    genai = _package("google.genai", target, "google-genai")
    base = str(target.url).rpartition("/models/")[0].removesuffix("/publishers/google")
    # The package makes no retries unless it is told to, but what fails below HTTP it repeats, if the HTTP is its own.
    http_client = _package("httpx", target, "google-genai").AsyncClient(timeout=None)
    options: dict[str, Any] = {"headers": headers, "httpx_async_client": http_client}
    found = _VERTEX.fullmatch(base)
    if found is None:
        options["base_url"], _, options["api_version"] = base.rpartition("/")
        client = genai.Client(vertexai=False, api_key=_key(target) or "none", http_options=options)
    else:
        options |= {"base_url": found["base"], "api_version": found["version"]}
        place = {"project": found["project"], "location": found["location"]}
        client = genai.Client(vertexai=True, credentials=_google_token(target), http_options=options, **place)
    _GIVEN[client] = http_client
    return client


def _google_token(target: Target) -> Any:
    """The row's token in the shape that Google's packages take; None where the target signs with found credentials."""
    key = _key(target)
    if key is None:
        return None
    credentials = _package("google.oauth2.credentials", target, "google-genai")
    return credentials.Credentials(key)


def _cohere(target: Target, headers: dict[str, str]) -> Any:
    cohere = _package("cohere", target, "cohere")
    base = _base(target, _ENDS[target.family])
    httpx = importlib.import_module("httpx")
    more = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return cohere.AsyncClientV2(
        api_key=_key(target) or "none",
        base_url=base,
        max_retries=0,
        httpx_client=httpx.AsyncClient(headers=more, timeout=600.0),
        log_warning_experimental_features=False,
    )


def _bedrock(target: Target, headers: dict[str, str]) -> Any:
    boto3 = _package("boto3", target, "boto3")
    botocore = _package("botocore", target, "boto3")
    config = _package("botocore.config", target, "boto3").Config
    region_of = importlib.import_module("llm_master.sigv4").region_of
    url = urlsplit(str(target.url))
    options: dict[str, Any] = {"retries": {"total_max_attempts": 1, "mode": "standard"}}
    if _key(target) is not None:
        # With a bearer key there is nothing to be signed.
        options["signature_version"] = botocore.UNSIGNED
    client = boto3.client(
        "bedrock-runtime",
        region_name=region_of(str(target.url)) or "us-east-1",
        endpoint_url=f"{url.scheme}://{url.netloc}{url.path.rpartition('/model/')[0]}",
        config=config(**options),
    )
    if _key(target) is not None:

        def carry(request: Any, **_: Any) -> None:
            for name, value in headers.items():
                del request.headers[name]
                request.headers[name] = value

        client.meta.events.register("request-created.bedrock-runtime", carry)
    return client


_MAKERS: dict[str, Callable[[Target, dict[str, str]], Any]] = {
    "openai_chat": _openai,
    "openai_responses": _openai,
    "openai_images": _openai,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
    "cohere": _cohere,
    "bedrock": _bedrock,
}
