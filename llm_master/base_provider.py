"""
The provider table, and the one class that serves every row of it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from llm_master.addresses import given_url
from llm_master.catalogue import load_rows
from llm_master.classes import BaseLLMProvider, LLMResponse, Request
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError, ProviderError
from llm_master.policy.deadline import Timeouts
from llm_master.presets import preset
from llm_master.registration import compatible_row, made, registered, takes_arguments
from llm_master.rows import ProviderRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_master.target import Target
    from llm_master.transport import Transport

__all__ = [
    "AnthropicProvider",
    "BFLProvider",
    "OpenAIProvider",
    "UnifiedProvider",
    "add_provider",
    "aliases",
    "implementation",
    "implementations",
    "make_provider",
    "row_of",
    "table_version",
]


class UnifiedProvider(BaseLLMProvider):
    """
    A provider described by a row of ``PROVIDER_CONFIGS``.

    Put a row into the table and its models work; the shipped rows come from ``catalogue/providers.json``. A row's
    ``generate_map`` sends a model to a generator method of this class:
    ``async def _generate_x(self, messages, model, **kwargs) -> LLMResponse``, which may use ``self.client``.

    Args:
        name: a key of the table, or an alias.
        config: keys and addresses; None reads the environment.
        transport: the HTTP sessions to use; None for own ones.
    """

    PROVIDER_CONFIGS: ClassVar[dict[str, dict[str, Any]]] = load_rows()

    def __init__(
        self, name: str = "openai", config: LLMConfig | None = None, *, transport: Transport | None = None
    ) -> None:
        self.row = row_of(name)
        super().__init__(registered(config if config is not None else LLMConfig.from_env(), self.row))
        self.name = self.row.name
        self._transport = transport
        self._own_transport = transport is None
        self._client: Any = None
        self._client_lock = threading.Lock()

    @property
    def transport(self) -> Transport:
        """The HTTP sessions of this provider, made on first use."""
        if self._transport is None:
            from llm_master.transport import Transport

            self._transport = Transport()
        return self._transport

    def target(self, model: str, *, asked: str | None = None, api: str | None = None) -> Target:
        """The model at this provider, ready to be called; raises ConfigurationError when set-up is missing."""
        from llm_master.families import target_class
        from llm_master.target import Target

        made = target_class(self.row, self.config, api, model) or Target
        target = made(self.row, self.config, self.transport, model=model, asked=asked or model, api=api)
        preset(target, self.config)
        return target

    def generator(self, model: str) -> Any:
        """The method that the row's ``generate_map`` names for a model, or None."""
        method = self.row.generate_map.get(model)
        if method is None:
            lower = model.lower()
            method = next((m for name, m in self.row.generate_map.items() if name.lower() == lower), None)
        if method is None:
            return None
        found = getattr(self, method, None)
        if found is None:
            raise ConfigurationError(
                f"{self.name}: generate_map sends {model!r} to {method!r}, which UnifiedProvider does not have;"
                f" add `async def {method}(self, messages, model, **kwargs)` to it"
            )
        return found

    @property
    def client(self) -> Any:
        """
        The vendor's own SDK client, ready configured and with its retries off.

        The row's ``client_class`` if it has one, else the family's asynchronous class.
        """
        with self._client_lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def client_for(self, api: str | None = None) -> Any:
        """
        A new SDK client for one of the row's API families, such as ``"gemini"``; ``client`` is that of the default one.

        Raises:
            ConfigurationError: a key, an address or the vendor's package is missing, or the address is none of its.
        """
        return self._make_client(api)

    def _make_client(self, api: str | None = None) -> Any:
        if self.row.supervisor is not None and given_url(self.row, self.config) is None:
            raise ConfigurationError(f"{self.name} has no address before its first call; use QueryLLM for it")
        from llm_master.clients import make_client

        # No model: only address, headers and key count, and what is missing of them is said.
        return make_client(self.target("client", api=api), self.row.client_class if api is None else None)

    async def generate(
        self, messages: list[dict[str, Any]], model: str, stream: bool = False, **kwargs: Any
    ) -> LLMResponse:
        """
        One attempt, without retries or fallbacks.

        Raises:
            ProviderError: the provider failed, or ``stream=True``: streams come from ``QueryLLM.query``.
        """
        custom = self.generator(model)
        if custom is not None:
            result: LLMResponse = await custom(messages, model, **kwargs)
            return result
        if stream:
            raise ProviderError("generate() does not stream; use QueryLLM.query(..., stream=True)", provider=self.name)
        import aiohttp

        limits = Timeouts()
        headers = kwargs.pop("extra_headers", None)
        target = self.target(model)
        request = Request(self.name, target.model, messages, kwargs, headers=headers)
        try:
            return await target.send(request, aiohttp.ClientTimeout(total=limits.total, sock_connect=limits.connect))
        finally:
            await target.released()

    async def aclose(self) -> None:
        """Close the sessions and the SDK client of this provider."""
        client, self._client = self._client, None
        if client is not None:
            from llm_master.clients import close_client

            await close_client(client)
        if self._own_transport and self._transport is not None:
            await self._transport.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class OpenAIProvider(UnifiedProvider):
    """The ``openai`` row as a class of its own."""

    def __init__(self, config: LLMConfig | None = None, *, transport: Transport | None = None) -> None:
        super().__init__("openai", config, transport=transport)


class AnthropicProvider(UnifiedProvider):
    """The ``anthropic`` row as a class of its own."""

    def __init__(self, config: LLMConfig | None = None, *, transport: Transport | None = None) -> None:
        super().__init__("anthropic", config, transport=transport)


class BFLProvider(UnifiedProvider):
    """The ``bfl`` row as a class of its own: FLUX, whose images come from jobs."""

    def __init__(self, config: LLMConfig | None = None, *, transport: Transport | None = None) -> None:
        super().__init__("bfl", config, transport=transport)


_PARSED: dict[str, tuple[Mapping[str, Any], ProviderRow]] = {}
_IMPLEMENTATIONS: dict[str, tuple[Any, dict[str, Any]]] = {}
_LOCK = threading.Lock()
_VERSION = 0


def table_version() -> int:
    """A number that changes when ``add_provider`` changes the table."""
    return _VERSION


def row_of(name: str) -> ProviderRow:
    """
    The checked row of a provider by key or alias, without regard to case.

    Raises:
        ConfigurationError: there is no such provider, or its row is wrong.
    """
    table = UnifiedProvider.PROVIDER_CONFIGS
    key = name if name in table else aliases().get(name.lower())
    if key is None:
        import difflib

        near = difflib.get_close_matches(name.lower(), aliases(), 3)
        hint = f"did you mean {', '.join(near)}?" if near else "llm-master providers lists them"
        raise ConfigurationError(f"unknown provider {name!r}; {hint}")
    row = table[key]
    known = _PARSED.get(key)
    # A row is parsed once; a user who puts another dict in its place gets that one.
    if known is None or known[0] is not row:
        known = (row, ProviderRow.parse(key, row))
        _PARSED[key] = known
    return known[1]


def aliases() -> dict[str, str]:
    """Every name of every provider, lower case, to its key."""
    names: dict[str, str] = {}
    for key, row in UnifiedProvider.PROVIDER_CONFIGS.items():
        for alias in row.get("aliases", ()):
            names.setdefault(alias.lower(), key)
    names.update({key.lower(): key for key in UnifiedProvider.PROVIDER_CONFIGS})
    return names


def implementation(name: str) -> tuple[Any, dict[str, Any]] | None:
    """The class or object, and constructor arguments that ``add_provider`` registered under a name, or None."""
    return _IMPLEMENTATIONS.get(name.lower())


def implementations() -> tuple[str, ...]:
    """The names under which implementation classes are registered, lower case."""
    return tuple(_IMPLEMENTATIONS)


def make_provider(
    provider_class: Any, name: str | None, kwargs: dict[str, Any] | None, config: LLMConfig, sessions: Any
) -> Any:
    """
    The provider object of a class, of a row when ``name`` is one.

    Args:
        kwargs: the arguments of ``add_provider``, None for a class of the provider map.
        sessions: gives the HTTP sessions.
    """
    if kwargs is not None:
        return made(name or "", provider_class, kwargs, config)
    # A subclass with a constructor of its own takes only the configuration, as the guide's classes do.
    if name and getattr(provider_class, "__init__", None) is UnifiedProvider.__init__:
        return provider_class(name, config, transport=sessions())
    return provider_class(config) if takes_arguments(provider_class) else provider_class()


def add_provider(name: str, llm_api_impl: Any = None, **kwargs: Any) -> None:
    """
    Register a provider under a new name; it is reached as ``name/model``.

    Without an implementation it is OpenAI-compatible. ``api_url`` (a full endpoint) or ``base_url``, ``api_key``,
    ``response_format_file`` and ``use_prompt_caching`` are settings; every other argument goes into the JSON body of
    each request. A setting that is not given is read from ``{NAME}_API_URL`` and so on when the provider is first used.

    An implementation is a class, whose constructor gets the arguments (and ``settings`` or ``config`` where it has such
    a parameter), or an object. It needs no base class: ``generate``, ``complete``, or ``chat`` with ``stream_chat`` and
    ``count_tokens``; see ``structural.py``.

    Raises:
        ValueError: the name or one of its spellings is taken. Nothing else is checked before use.
    """
    global _VERSION  # noqa: PLW0603  # one table a process
    key = name.lower()
    with _LOCK:
        if not key.strip():
            raise ValueError("a provider needs a name")
        if key in aliases() or key in _IMPLEMENTATIONS:
            raise ValueError(f"provider name {name!r} is taken; choose another")
        if llm_api_impl is not None:
            _IMPLEMENTATIONS[key] = (llm_api_impl, kwargs)
        else:
            UnifiedProvider.PROVIDER_CONFIGS[key] = compatible_row(key, kwargs)
        _VERSION += 1
