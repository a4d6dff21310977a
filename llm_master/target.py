"""
One model at one provider, ready to be called: address, headers, dialect and wire family, prepared once.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from llm_master.addresses import auth_header, base_url, family_url, given_url, model_url, stream_url
from llm_master.classify import error_from_response, excerpt
from llm_master.endpoint import COMMON_HEADERS, Endpoint
from llm_master.errors import ConfigurationError, MissingKeyError, ProviderError, ResponseError
from llm_master.families import FAMILIES, dialect_of, family_for
from llm_master.guard import guard_for
from llm_master.image_limits import check_images
from llm_master.inlining import encode_inlined
from llm_master.media import FetchNeededError
from llm_master.presets import Presets, encoded
from llm_master.pricing import Pricer
from llm_master.prompt_caching import PARAMETER
from llm_master.redaction import Secret, key_id, redact
from llm_master.unexpected import FAILURES, MISSHAPEN, cause_of, told, unfit

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from llm_master.answers import OperationResponse
    from llm_master.classes import LLMResponse, ModelConfig, Request
    from llm_master.config import LLMConfig
    from llm_master.incoming import OpenStream
    from llm_master.rows import ProviderRow
    from llm_master.sigv4 import Signer
    from llm_master.transport import Answer, Transport

__all__ = ["Target", "key_id"]


class Target:
    """
    A model at a provider.

    Args:
        row: the provider's checked row.
        config: where its key and address come from.
        transport: what sends its requests.
        model: the name to send; asked: the name as the caller gave it.
        api: one of the row's families, None for its first.

    Attributes:
        guard: what is known of the model's limits, None for nothing; config: as given.
        prices: the registry's or settings' entry of the model, None where there is none.
        heed: is shown the headers of every good answer, None when nobody wants them.
        presets: what is set for all its calls, None for nothing.
        other: the same model in another family of its row, which some calls need; ``for_call`` tells which.

    Raises:
        ConfigurationError: no address, a retired provider, an unknown family, an unusable header.
        MissingKeyError: no key where one is needed.
    """

    __slots__ = (
        "__weakref__",
        "_auth",
        "_endpoint",
        "_extra_auth",
        "_family",
        "_given_model",
        "_only_other",
        "_served_at",
        "_server",
        "_siblings",
        "_signer",
        "_stream_url",
        "_wants_other",
        "asked",
        "config",
        "dialect",
        "family",
        "guard",
        "heed",
        "key_id",
        "model",
        "other",
        "presets",
        "prices",
        "provider",
        "row",
        "transport",
    )

    def __init__(
        self,
        row: ProviderRow,
        config: LLMConfig,
        transport: Transport,
        *,
        model: str,
        asked: str,
        api: str | None = None,
    ) -> None:
        self.row = row
        self.config = config
        self._given_model = model
        self._siblings: dict[str, Target] = {}
        self.provider = row.name
        self.family = family_for(row, config, api, model)
        takes_prefix = row.model_prefix and "/" not in model and "{model}" not in row.paths.get(self.family, "")
        self.model = row.model_prefix + model if takes_prefix else model
        self.guard = guard_for(row, self.model)
        self.asked = asked
        self.transport = transport
        self._family: Any = importlib.import_module(FAMILIES[self.family][0])
        self.dialect: Any = dialect_of(row, self.family)
        self._stream_url: str | None = None
        self.other: Target | None = None
        self.presets: Presets | None = None
        self._wants_other: Any = None
        self._only_other = False
        self._server: Any = None
        self._served_at: tuple[str, str] | None = None
        self._signer: Signer | None = None
        self._auth = row.family_auth.get(self.family, row.auth)
        self._extra_auth: dict[str, Secret] = {}
        self.key_id: str | None = None
        self.prices: ModelConfig | None = None
        self.heed: Callable[[Any], None] | None = None
        self._endpoint: Endpoint | None = None
        if row.status != "live":
            after = f"; use {row.successor} instead" if row.successor else ""
            raise ConfigurationError(f"{row.name} is {row.status} and cannot serve {model!r}{after}")
        if row.supervisor is not None and given_url(row, config) is None:
            module_name, _, name = row.supervisor.partition(":")
            self._server = getattr(importlib.import_module(module_name), name).shared(model, config)
            self._server.retain(self)
            return
        key = config.key_for(row.api_key_attr or f"{row.name}_api_key", row.key_variables, row.alias_variables)
        if key is not None:
            from_variable = (row.variable_auth[v] for v in row.variable_auth if config.key_for("", (v,)) == key)
            self._auth = next(from_variable, self._auth)
        for auth, variables in row.header_variables.items():
            secret = config.key_for("", variables)
            if secret is not None:
                self._extra_auth.update((auth_header(auth, secret),))
        self._prepare(config, key if key is not None else row.api_key)
        if api is None and self.family == "openai_chat" and "openai_responses" in row.families:
            # Its own dialect knows which models and parameters chat completions refuses.
            dialect_of_other = dialect_of(row, "openai_responses").for_model(self.model)
            if dialect_of_other.only or dialect_of_other.tools_while_reasoning or dialect_of_other.only_tools:
                self.other = Target(row, config, transport, model=model, asked=asked, api="openai_responses")
                self._wants_other = dialect_of_other.wanted
                self._only_other = dialect_of_other.only

    def for_call(self, params: dict[str, Any]) -> Target:
        """The target that serves a call with these parameters: this one, or ``other``."""
        other = self.other
        return other if other is not None and (params or self._only_other) and self._wants_other(params) else self

    def _prepare(self, config: LLMConfig, key: Secret | None) -> None:
        row = self.row
        try:
            url = self._full_url(config)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.asked!r} cannot be sent: {error}") from error
        if key is None and row.signer is not None:
            module_name, _, name = row.signer.partition(":")
            self._signer = getattr(importlib.import_module(module_name), name)(row, self.family, url, config)
        if key is None and not row.key_optional and self._signer is None:
            raise MissingKeyError(
                f"{row.name} needs an API key for {self.asked!r}: set {' or '.join(row.key_variables)}"
                f" (environment or .env), or LLMConfig({row.api_key_attr}=...)"
            )
        self._address(url, key)

    def _full_url(self, config: LLMConfig) -> str:
        row, family = self.row, self._family
        path = getattr(family, "path", None)
        if path is None:
            url = model_url(family_url(row, config, self.family, family.PATH), self.model)
            if self.family in row.stream_paths:
                given = given_url(row, config)
                if given is not None and given[1]:
                    self._stream_url = stream_url(url)
                else:
                    base = base_url(row, config, family=self.family)
                    self._stream_url = model_url(base + row.stream_paths[self.family], self.model)
            return url
        # The address holds the model, and whether the answer is streamed.
        given = given_url(row, config)
        if given is not None and given[1]:
            self._stream_url = stream_url(given[0])
            return given[0]
        base = base_url(row, config, family=self.family)
        template = {"template": row.paths[self.family]} if self.family in row.paths else {}
        self._stream_url = base + path(self.model, stream=True, **template)
        return str(base + path(self.model, stream=False, **template))

    def _address(self, url: str, key: str | None) -> None:
        row = self.row
        headers: dict[str, str] = {**row.headers, **self._extra_auth}
        if key:
            headers.update((auth_header(self._auth, key),))
        self.key_id = key_id(key)
        # What is masked in errors is the key itself: a server echoes it without its scheme.
        secrets = tuple(Secret(value.rpartition(" ")[2]) for value in self._extra_auth.values())
        self._endpoint = Endpoint(
            url, headers, provider=row.name, model=self.model, secrets=(key, *secrets) if key else secrets
        )

    @property
    def url(self) -> str | None:
        """The full address, None until a supervised server runs."""
        return str(self._endpoint.url) if self._endpoint is not None else None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request; the key among them shows as ``***``."""
        if self._endpoint is None:
            return {}
        headers = CIMultiDict(COMMON_HEADERS)
        headers.update(self._endpoint.headers)
        return dict(headers)

    async def endpoint(self, extra: dict[str, str] | None = None, timeout: float | None = None) -> Endpoint:
        """Where to send a request, with the caller's extra headers; starts a supervised server if need be."""
        if self._server is not None:
            served = await self._server.endpoint(timeout)
            if served != self._served_at:
                base, key = served
                self._address(base + self.row.paths.get(self.family, self._family.PATH), key)
                self._served_at = served
        assert self._endpoint is not None  # noqa: S101  # set by __init__ or just above
        return self._endpoint.with_headers(extra) if extra else self._endpoint

    async def send(self, request: Request, timeout: aiohttp.ClientTimeout) -> LLMResponse:
        """
        One request, one whole answer.

        Raises:
            ProviderError: typed by what the answer's body, then its status, says.
            ConfigurationError: the provider serves no chat.
        """
        if not self.row.chats:
            raise self._no_chat()
        endpoint = self._endpoint
        if endpoint is None or self._server is not None or request.headers:
            endpoint = await self.endpoint(request.headers, timeout.total)
        try:
            body = self.encode(request)
        except FetchNeededError as needed:
            body, timeout = await encode_inlined(self, request, needed, timeout)
        if self._signer is not None:
            endpoint = await self._signed(endpoint, body)
        request.bytes_sent = len(body)
        answer = await self.transport.post(endpoint, body, timeout)
        request.bytes_received = len(answer.body)
        if answer.status != 200:
            self._refuse(answer.status, answer.body, answer.headers, endpoint)
        return self.decode(answer.body, request, answer.headers)

    async def open(self, request: Request, timeout: aiohttp.ClientTimeout) -> tuple[OpenStream, Any]:
        """One streamed request: the open stream and the fold that reads it; raises as ``send``."""
        if not self.row.chats:
            raise self._no_chat()
        endpoint = await self.endpoint(request.headers, timeout.total)
        if self._stream_url is not None:
            endpoint = endpoint.at(self._stream_url)
        try:
            body = self.encode(request)
        except FetchNeededError as needed:
            body, timeout = await encode_inlined(self, request, needed, timeout)
        fold = self._family.Fold(request, self.dialect, rules=self.row.error_codes)
        return await self.opened(endpoint, body, timeout, request), fold

    async def _signed(self, endpoint: Endpoint, body: bytes) -> Endpoint:
        """Where to send one body, with its signature; each attempt needs its own."""
        signer = self._signer
        assert signer is not None  # noqa: S101  # the callers asked
        if not signer.fresh:
            try:
                await asyncio.to_thread(signer.refresh)
            except ConfigurationError as error:
                # Who signs does not know for whom.
                raise type(error)(f"{self.provider} cannot serve {self.model!r}: {error}") from error
        headers = signer.sign("POST", str(endpoint.url), {"Content-Type": "application/json"}, body)
        return endpoint.signed(headers, signer.secrets)

    def _no_chat(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.provider} serves {' and '.join(self.row.serves)} and no chat, so {self.asked!r} has no answer to"
            " messages; name a model of another provider"
        )

    async def post(self, endpoint: Endpoint, body: bytes, timeout: aiohttp.ClientTimeout, request: Request) -> Answer:
        """A body to any route of the provider, signed where that is needed, for a request; raises as ``send``."""
        if self._signer is not None:
            endpoint = await self._signed(endpoint, body)
        request.bytes_sent += len(body)
        answer = await self.transport.post(endpoint, body, timeout)
        request.bytes_received += len(answer.body)
        self._refuse(answer.status, answer.body, answer.headers, endpoint)
        return answer

    async def opened(
        self, endpoint: Endpoint, body: bytes, timeout: aiohttp.ClientTimeout, request: Request
    ) -> OpenStream:
        """As ``post``, for an answer that is read piece by piece."""
        if self._signer is not None:
            endpoint = await self._signed(endpoint, body)
        request.bytes_sent += len(body)
        stream = await self.transport.open(endpoint, body, timeout)
        try:
            if stream.status != 200:
                self._refuse(stream.status, await stream.rest(), stream.headers, endpoint)
        except BaseException:
            request.bytes_received = stream.bytes_received
            stream.close()
            raise
        return stream

    def sibling(self, family: str) -> Target:
        """The same model in another family of its row, made once; raises as the class."""
        if family == self.family:
            return self
        found = self._siblings.get(family)
        if found is None:
            found = Target(self.row, self.config, self.transport, model=self._given_model, asked=self.asked, api=family)
            self._siblings[family] = found
        return found

    def decode(self, body: bytes, request: Request, headers: Any) -> LLMResponse:
        """A whole answer."""
        try:
            response: LLMResponse = self._family.decode(body, request, self.dialect, rules=self.row.error_codes)
        except FAILURES as error:
            raise self.masked(told(error, self)) from cause_of(error)
        if response.finish_reason == "error":
            self.check_said(response)
        self.complete(response, headers)
        return response

    def check_said(self, response: LLMResponse) -> None:
        """Refuse an answer that holds nothing at all and gives no reason for that; raises ResponseError."""
        said = (response.content, response.tool_calls, response.refusal, response.reasoning, response.images)
        if not any(said) and response.audio_data is None:
            raise ResponseError(
                f"{self.provider} answered {self.model!r} with no content and no reason for that;"
                " try again or give a fallback_model=",
                provider=self.provider,
                model=self.model,
                status_code=200,
            )

    def masked(self, error: ProviderError) -> ProviderError:
        """The same error without this target's key, which a server may echo in any shape."""
        if self._endpoint is not None and self._endpoint.secrets:
            error.args = (redact(str(error), *self._endpoint.secrets),)
            error.body = redact(error.body, *self._endpoint.secrets) if error.body else error.body
        return error

    def pricer(self, served: str | None = None) -> Pricer:
        """What prices a request that is made now; ``served``: the model's name as the provider says it."""
        host = self._endpoint.url.host if self._endpoint is not None else None  # some cost more than others
        return Pricer(self.asked, self.provider, served or self.model, time.time(), self.row.free, self.prices, host)

    def complete(self, response: LLMResponse | OperationResponse, headers: Any) -> None:
        """Fill in what only the target knows."""
        response.model_name = self.asked
        response.provider = self.provider
        if response.model is None:
            response.model = self.model
        found = headers.get("x-request-id") or headers.get("request-id") or headers.get("x-amzn-requestid")
        if found:
            response.request_id = found
        if self.row.tier_header is not None and "service_tier" in response.__struct_fields__:
            response.service_tier = response.service_tier or headers.get(self.row.tier_header)  # type: ignore[misc]  # a field
        response.pricer = pricer = self.pricer(response.model)
        pricer.tier, pricer.geo, pricer.counted = response.service_tier, response.geo, response.billed
        if self.guard is not None and self.guard.notice is not None:
            response.notes = (*response.notes, self.guard.notice)
        if self.heed is not None:
            self.heed(headers)

    def encode(self, request: Request) -> bytes:
        """The JSON body that would be sent."""
        request.guard = guard = self.guard
        lowered = guard.check(request) if request.params and guard is not None else ()
        try:
            preset_too = self.presets is not None or PARAMETER in request.params
            body = encoded(self, self._family, request) if preset_too else self._family.encode(request, self.dialect)
        except MISSHAPEN as error:
            raise unfit(error, self) from error
        if request.parts:
            check_images(request, own_server=self.row.key_optional)
        if lowered:
            request.dropped = (*lowered, *request.dropped)
        return body

    def _refuse(self, status: int, body: bytes, headers: Any, endpoint: Endpoint) -> None:
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise ResponseError(
                f"{self.provider} answered {self.model!r} with a redirect to {excerpt(headers.get('Location', '?'))};"
                " keys do not follow redirects: set its base URL to the final address",
                provider=self.provider,
                model=self.model,
                status_code=status,
                retryable=False,
            )
        error = error_from_response(
            status,
            body,
            provider=self.provider,
            model=self.model,
            headers=headers,
            rules=self.row.error_codes,
            secrets=endpoint.secrets,
            request_id=headers.get("x-request-id") or headers.get("request-id") or headers.get("x-amzn-requestid"),
        )
        if self.guard is not None:
            self.guard.explain(error)
        raise error

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not show anywhere: the keys in the headers."""
        return self._endpoint.secrets if self._endpoint is not None else ()

    @property
    def prefill(self) -> bool:
        """Whether the model goes on with an assistant's turn that stands last."""
        return bool(self._family.takes_prefill(self.dialect, self.model))

    @property
    def supervised(self) -> bool:
        """Whether it holds a server that the row's supervisor runs."""
        return self._server is not None

    async def released(self) -> None:
        """Let go of a supervised server and wait until it is gone, if nobody else uses it."""
        if self._server is not None:
            self._server.release(self)
            await self._server.stopped()
