"""
Where keys and addresses come from: ``LLMConfig``, the environment, and a ``.env`` file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError
from llm_master.key_variables import ALIAS_VARIABLES, KEY_VARIABLES, key_variable
from llm_master.redaction import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

__all__ = ["KEY_VARIABLES", "LLMConfig"]

_KEY_SUFFIX = "_api_key"


@dataclass(repr=False)
class LLMConfig:
    """
    Keys and addresses of the providers.

    A key is stored as a string that masks itself in repr, tracebacks and pickles. A subclass may add fields that end
    in ``_api_key``; ``from_env`` and ``validate`` see them.

    Args:
        base_urls: provider -> address to which the API's path is appended.
        api_urls: provider -> full endpoint, used as it is; beats ``base_urls``.
        dotenv_values: variables of the ``.env`` file, filled in by ``from_env``; the process environment beats them.

    Raises:
        ConfigurationError: a key is empty or could not stand in a header; an address is not an http(s) URL.
    """

    openai_api_key: str | None = None
    openrouter_api_key: str | None = None
    groq_api_key: str | None = None
    mistral_api_key: str | None = None
    deepseek_api_key: str | None = None
    xai_api_key: str | None = None
    together_api_key: str | None = None
    fireworks_api_key: str | None = None
    cerebras_api_key: str | None = None
    perplexity_api_key: str | None = None
    sambanova_api_key: str | None = None
    nvidia_api_key: str | None = None
    nebius_api_key: str | None = None
    cohere_api_key: str | None = None
    moonshot_api_key: str | None = None
    dashscope_api_key: str | None = None
    cloudflare_api_key: str | None = None
    cloudflare_gateway_api_key: str | None = None
    github_models_api_key: str | None = None
    bedrock_api_key: str | None = None
    foundry_api_key: str | None = None
    azure_api_key: str | None = None
    gemini_openai_api_key: str | None = None
    ollama_api_key: str | None = None
    lmstudio_api_key: str | None = None
    vllm_api_key: str | None = None
    sglang_api_key: str | None = None
    llamacpp_api_key: str | None = None
    vertex_api_key: str | None = None
    anthropic_api_key: str | None = None
    gemini_api_key: str | None = None
    huggingface_api_key: str | None = None
    deepinfra_api_key: str | None = None
    novita_api_key: str | None = None
    zai_api_key: str | None = None
    minimax_api_key: str | None = None
    meta_api_key: str | None = None
    meta_llama_api_key: str | None = None
    ai21_api_key: str | None = None
    vercel_api_key: str | None = None
    voyage_api_key: str | None = None
    databricks_api_key: str | None = None
    inception_api_key: str | None = None
    scaleway_api_key: str | None = None
    baseten_api_key: str | None = None
    wandb_api_key: str | None = None
    ovhcloud_api_key: str | None = None
    local_api_key: str | None = None
    openai_compatible_api_key: str | None = None
    bfl_api_key: str | None = None
    recraft_api_key: str | None = None
    replicate_api_key: str | None = None
    fal_api_key: str | None = None
    base_urls: dict[str, str] = field(default_factory=dict)
    api_urls: dict[str, str] = field(default_factory=dict)
    dotenv_values: dict[str, str] = field(default_factory=dict, compare=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # @dataclass on the subclass would write a repr of its own, with the addresses in it.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = LLMConfig.__repr__  # type: ignore[method-assign]  # the same method, one class lower

    if not TYPE_CHECKING:  # a declared __setattr__ would let a type checker accept any misspelt field

        def __setattr__(self, name: str, value: Any) -> None:
            if name.endswith(_KEY_SUFFIX):
                if value and isinstance(value, str):
                    value = Secret(value)  # masked before anything can fail: a traceback may show locals
                value = _explicit_key(name, value)
            elif name in ("base_urls", "api_urls"):
                value = _explicit_urls(name, value)
            elif name == "dotenv_values":
                value = {variable: Secret(text) for variable, text in value.items()}
            object.__setattr__(self, name, value)

    @classmethod
    def from_env(cls, dotenv: bool | str | Path = True) -> Self:
        """
        Read the keys and addresses of all fields from the environment.

        ``<PROVIDER>_API_KEY`` (and the names in ``KEY_VARIABLES``, then those of ``ALIAS_VARIABLES``),
        ``<PROVIDER>_BASE_URL``, ``<PROVIDER>_API_URL``.
        A variable that is wrong is reported when its provider is used, so that one broken key leaves the others usable.

        Args:
            dotenv: True looks for a ``.env`` file in the current folder and its parents; a path names the file; False
                reads none. The process environment beats the file.

        Raises:
            ConfigurationError: the named file does not exist or cannot be read.
        """
        config = cls()
        config.dotenv_values = _read_dotenv(dotenv)
        for attr in _key_fields(cls):
            name = attr.removesuffix(_KEY_SUFFIX)
            # Errors wait until the provider is used: key_for and url_for then read the same variable again.
            try:
                key = config.key_for(attr)
                if key is not None:
                    setattr(config, attr, key)
            except ConfigurationError:
                pass
            try:
                found = config.url_for(name)
            except ConfigurationError:
                continue
            if found is not None:
                (config.api_urls if found[1] else config.base_urls)[name] = found[0]
        return config

    def validate(self) -> dict[str, bool]:
        """For every provider with a key field: whether it has a key."""
        return {attr.removesuffix(_KEY_SUFFIX): bool(getattr(self, attr, None)) for attr in _key_fields(type(self))}

    def key_for(self, attr: str, variables: tuple[str, ...] = (), fallbacks: tuple[str, ...] = ()) -> Secret | None:
        """
        The key in a field, else in the environment, else in the ``.env`` file; None when there is none.

        Args:
            attr: the field, ``openai_api_key``; one that this class lacks counts as not set.
            variables: names tried in this order; none given: those that ``from_env`` reads for the field.
            fallbacks: names tried when none of these is set anywhere, also not in the ``.env`` file.

        Raises:
            ConfigurationError: the variable holds only white space, or a character that no header can carry.
        """
        key = getattr(self, attr, None)
        if key:
            return key if isinstance(key, Secret) else Secret(key)
        if not variables:
            name = attr.removesuffix(_KEY_SUFFIX)
            variables, fallbacks = _key_variables(name), ALIAS_VARIABLES.get(name, ())
        found = self._first_set(variables) or self._first_set(fallbacks)
        return _clean_key(attr, found[1], f"environment variable {found[0]}") if found else None

    def variable_for(self, variables: Sequence[str]) -> tuple[str, str] | None:
        """The first variable that is set in the environment, else in the ``.env`` file, and its value; or None."""
        return self._first_set(variables)

    def url_for(self, name: str, *aliases: str, variables: Sequence[str] = ()) -> tuple[str, bool] | None:
        """
        The address set for a provider and whether it is a full endpoint; None when there is none.

        The fields come first (a full endpoint before a base), then ``<NAME>_API_URL`` and ``<NAME>_BASE_URL`` in the
        environment and the ``.env`` file. A base comes without its trailing slash.

        Args:
            name: the provider's key; case does not matter.
            aliases: other names of it, tried after the key.
            variables: environment variables of the vendor's own that hold a base, tried last.

        Raises:
            ConfigurationError: the address is not an http(s) URL; the message shows the corrected form.
        """
        names = [each.lower() for each in (name, *aliases)]
        prefixes = [_variable_prefix(each) for each in names]
        found = self._url_field(names) or self._first_set(
            [*(f"{prefix}_{kind}" for prefix in prefixes for kind in ("API_URL", "BASE_URL")), *variables]
        )
        if found is None:
            return None
        full = found[0].endswith(("api_urls", "_API_URL"))
        return _checked_url(found[1], name, full=full, variable=found[0] if found[0] in variables else None), full

    # What these two find is a Secret and nothing else of it stays in a frame that fails: a traceback may show locals.

    def _url_field(self, names: Sequence[str]) -> tuple[str, Any] | None:
        for attr in ("api_urls", "base_urls"):
            given = {key.lower(): url for key, url in getattr(self, attr).items()}
            for each in names:
                if each in given:
                    url = given[each]
                    return attr, Secret(url) if isinstance(url, str) else url
        return None

    def _first_set(self, variables: Sequence[str]) -> tuple[str, Secret] | None:
        for source in (os.environ, self.dotenv_values):
            for variable in variables:
                text = source.get(variable)
                if text:
                    return variable, Secret(text.strip())
        return None

    def __repr__(self) -> str:
        keys = [name for name, there in self.validate().items() if there]
        shown = [f"keys={keys}"]
        shown += [f"{kind}={sorted(urls)}" for kind in ("base_urls", "api_urls") if (urls := getattr(self, kind, None))]
        return f"{type(self).__name__}({', '.join(shown)})"


def _key_fields(cls: type) -> list[str]:
    # Annotations rather than dataclasses.fields: a subclass without the decorator counts too.
    found: dict[str, None] = {}
    for klass in reversed(cls.__mro__):
        for name in getattr(klass, "__annotations__", ()):
            if name.endswith(_KEY_SUFFIX):
                found[name] = None
    return list(found)


def _variable_prefix(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name.upper())


def _key_variables(name: str) -> tuple[str, ...]:
    own = key_variable(name)
    variables = KEY_VARIABLES.get(name, ())
    return variables if own in variables else (*variables, own)


def _explicit_key(attr: str, value: Any) -> Secret | None:
    # An empty Secret is what a pickled key comes back as: no key, not a mistake.
    if value is None or (isinstance(value, Secret) and not value):
        return None
    if not isinstance(value, str):
        raise ConfigurationError(f"{attr} must be a string, not {type(value).__name__}")
    return _clean_key(attr, Secret(value.strip(" ")), f"LLMConfig({attr}=...)")


def _clean_key(attr: str, key: Secret, origin: str) -> Secret:
    name = attr.removesuffix(_KEY_SUFFIX)
    wanted = " or ".join(_key_variables(name))
    if not key.strip():
        raise ConfigurationError(f"the key of {name} is empty ({origin}); give a key, or set {wanted}, or leave it out")
    for position, char in enumerate(key):
        if not char.isprintable() or ord(char) > 255:
            raise ConfigurationError(
                f"the key of {name} ({origin}) holds a character that no HTTP header can carry"
                f" (U+{ord(char):04X} at position {position}); copy the key again, or set {wanted}"
            )
    return key


def _explicit_urls(attr: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigurationError(f'{attr} must be a dict such as {{"openai": "https://host/v1"}}')
    for name, url in value.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"{attr}: a provider's name must be a string, not {type(name).__name__}")
        _checked_url(Secret(url) if isinstance(url, str) else url, name, full=attr == "api_urls")
    return dict(value)


def _checked_url(url: Any, name: str, *, full: bool, variable: str | None = None) -> str:
    field_name = "api_urls" if full else "base_urls"
    problem = (
        _url_problem(url, name, full=full) if isinstance(url, str) else f"must be a string, not {type(url).__name__}"
    )
    if problem:
        variable = variable or f"{_variable_prefix(name)}_{field_name[:-1].upper()}"
        raise ConfigurationError(f"the address of {name} (LLMConfig({field_name}=...) or {variable}) {problem}")
    return str(url) if full else url.rstrip("/")


def _url_problem(url: str, name: str, *, full: bool) -> str | None:
    if not url.isprintable() or " " in url or "\\" in url or not url:
        return "is empty or holds a space, backslash or control character"
    scheme, found, rest = url.partition("://")
    if scheme.lower() not in ("http", "https"):
        return f"does not start with http:// or https://; write {_corrected(rest if found else url)}"
    authority = rest.replace("?", "/").replace("#", "/").partition("/")[0]
    if "@" in authority:
        key = f"LLMConfig({_variable_prefix(name).lower()}{_KEY_SUFFIX}=...)"
        return f"holds a user name or password; write {_corrected(rest, scheme)} and give the key as {key}"
    if _host_port(authority) is None:
        return f"has no valid host and port; write {scheme.lower()}://host[:port]/path"
    if not full and ("?" in rest or "#" in rest):
        return "holds a query; a full endpoint belongs into LLMConfig(api_urls=...)"
    return None


def _host_port(authority: str) -> tuple[str, str] | None:
    host, found, port = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    if not found:
        host, port = authority, ""
    if found and not (port.isascii() and port.isdigit() and int(port) < 65_536):
        return None
    bracketed = host.startswith("[") and host.endswith("]")
    return (host, port) if host and (bracketed or ":" not in host) else None


def _corrected(rest: str, scheme: str | None = None) -> str:
    # Shown in an error, so nothing of it may be a credential: no userinfo, no query, no guess at a strange authority.
    rest = rest.partition("?")[0].partition("#")[0].lstrip("/")
    authority, slash, path = rest.partition("/")
    found = _host_port(authority.rpartition("@")[2])
    if found is None:
        return "https://host[:port]/path"
    host, port = found
    if scheme is None:
        local = host in ("localhost", "[::1]", "0.0.0.0") or host.startswith("127.") or bool(port)  # noqa: S104 - compared
        scheme = "http" if local else "https"
    return f"{scheme.lower()}://{host}{':' + port if port else ''}{slash}{path}"


def _read_dotenv(dotenv: bool | str | Path) -> dict[str, str]:
    if dotenv is False:
        return {}
    path = _find_dotenv() if dotenv is True else os.fspath(dotenv)
    if path is None:
        return {}
    if not os.path.exists(path) or os.path.isdir(path):  # noqa: PTH110, PTH112 - pathlib makes every start slower
        raise ConfigurationError(f"there is no .env file {path}; name one that exists or leave dotenv out")
    from dotenv import dotenv_values

    try:
        found = dotenv_values(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the .env file {path} cannot be read ({type(error).__name__}); it must be UTF-8 text"
        ) from None
    return {variable: text for variable, text in found.items() if text}


def _find_dotenv() -> str | None:
    try:
        folder = os.getcwd()  # noqa: PTH109 - as above
    except OSError:  # the folder was removed under us
        return None
    while True:
        path = f"{folder.rstrip(os.sep)}{os.sep}.env"
        if os.path.isfile(path):  # noqa: PTH113 - as above
            return path
        parent = folder.rpartition(os.sep)[0] or os.sep
        if parent == folder:
            return None
        folder = parent
