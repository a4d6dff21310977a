"""
Where a provider is reached and how its key is carried: a row's address, filled in from the configuration.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from llm_master.errors import ConfigurationError
from llm_master.redaction import Secret

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import Placeholder, ProviderRow

__all__ = [
    "auth_header",
    "base_url",
    "family_url",
    "given_url",
    "is_address_of",
    "missing_variables",
    "model_url",
    "shown_url",
    "stream_url",
]

# How the address of a family's requests ends.
_ENDS = {
    "openai_chat": "/chat/completions",
    "anthropic_messages": "/messages",
    "openai_responses": "/responses",
    "gemini": ":generateContent",
    "cohere": "/chat",
    "bedrock": "/converse",
}
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# Nothing that ends a segment or climbs out of it; a Google project may be called example.com:name.
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]*")
_SHAPES = {
    "host": "a host such as name.example.com",
    "label": "letters, digits and dashes",
    "segment": "letters, digits, dots and dashes",
}


def given_url(row: ProviderRow, config: LLMConfig) -> tuple[str, bool] | None:
    """
    The address that the user set for a provider and whether it is a full endpoint; None when there is none.

    Raises:
        ConfigurationError: it is no http(s) URL.
    """
    return config.url_for(row.name, *row.aliases, variables=row.base_variables)


def base_url(row: ProviderRow, config: LLMConfig, *, family: str | None = None) -> str:
    """
    The base URL of a row for one family, its default family when None, with every placeholder filled in.

    The user's own address comes first: it is completed with the row's version path, and a family that lives beside the
    row's base URL is looked for at the same place beside the user's. A full endpoint is not looked at.

    Raises:
        ConfigurationError: there is no address, or a variable that it needs is not set or cannot stand in it.
    """
    family = family or row.families[0]
    given = given_url(row, config)
    if given is not None and not given[1]:
        return _beside(row, given[0], family)
    template = row.family_urls.get(family, row.base_url)
    if template is None:
        raise ConfigurationError(
            f"{row.name} has no fixed address: set {row.name.upper()}_BASE_URL"
            f" or LLMConfig(base_urls={{{row.name!r}: 'http://...'}})"
        )
    missing = missing_variables(row, config, family=family)
    if missing:
        raise ConfigurationError(
            f"{row.name} needs {' and '.join(missing)} for its address {_shown(template, row)}: set"
            f" {'it' if len(missing) == 1 else 'them'} (environment or .env), or {row.name.upper()}_BASE_URL,"
            f" or LLMConfig(base_urls={{{row.name!r}: 'https://...'}})"
        )
    return _filled(template, row, config) if row.placeholders else template


def family_url(row: ProviderRow, config: LLMConfig, family: str, path: str) -> str:
    """
    The full address of one family's requests.

    Args:
        path: the family's own path, used where the row names no other.

    Raises:
        ConfigurationError: as ``base_url``.
    """
    given = given_url(row, config)
    if given is not None and given[1]:
        return given[0]
    return base_url(row, config, family=family) + row.paths.get(family, path)


def model_url(url: str, model: str) -> str:
    """
    An address with the name of the model in place of ``{model}``, without what stands before its last slash.

    Raises:
        ConfigurationError: the name would lead to another address.
    """
    if "{model}" not in url:
        return url
    name = model.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise ConfigurationError(f"{model!r} is no model's name")
    return url.replace("{model}", quote(name, safe="@-._~"))


def stream_url(url: str) -> str:
    """The address of streams beside a full endpoint, in the families whose address says which it is."""
    url = re.sub(r"/converse(?=$|\?)", "/converse-stream", url)
    return url.replace(":generateContent", ":streamGenerateContent?alt=sse").replace(":rawPredict", ":streamRawPredict")


def missing_variables(row: ProviderRow, config: LLMConfig, *, family: str | None = None) -> list[str]:
    """What the address of one family still needs, ``AWS_REGION or AWS_DEFAULT_REGION`` each; [] when nothing."""
    template = row.family_urls.get(family or row.families[0], row.base_url) or ""
    return [
        " or ".join(place.variables)
        for name, place in row.placeholders.items()
        if f"{{{name}}}" in template and place.default is None and config.variable_for(place.variables) is None
    ]


def shown_url(row: ProviderRow) -> str | None:
    """A row's base URL for people: the first variable of each placeholder stands in braces."""
    return _shown(row.base_url, row) if row.base_url is not None else None


def auth_header(auth: str, key: str) -> tuple[str, Secret]:
    """The header that carries a key, and its value, for a row's ``auth``."""
    if auth == "bearer":
        auth = "Authorization: Bearer"
    name, _, scheme = auth.partition(":")
    scheme = scheme.strip()
    return name, Secret(f"{scheme} {key}" if scheme else key)


def is_address_of(row: ProviderRow, given: str, family: str, *, full: bool) -> bool:
    """Whether a user's address tells its family: a full endpoint by its end, a base URL that no other family has."""
    path = urlsplit(given).path.rstrip("/")
    if full:
        # A row's own path may end in another way than the family's: Claude on Vertex AI answers at ...:rawPredict.
        end = row.paths.get(family, "").rpartition("}")[2]
        return path.endswith(_ENDS.get(family, "\n")) or (end != "" and path.endswith(end))
    own = _own_path(row, family)
    others = {_own_path(row, each) for each in row.families if each != family}
    return own not in {"", *others} and path.endswith(own)


def _own_path(row: ProviderRow, family: str) -> str:
    """The end of a family's base URL, with what its requests put before the end that the family has everywhere."""
    path = urlsplit(row.family_urls.get(family, row.base_url) or "").path + _between(row, family)
    return path.rpartition("}")[2]


def _between(row: ProviderRow, family: str) -> str:
    """What a row puts between its base URL and the family's own path: ``/openai`` of ``/openai/chat/completions``."""
    return row.paths.get(family, "").removesuffix(_ENDS.get(family, ""))


def _beside(row: ProviderRow, given: str, family: str) -> str:
    base = given.rstrip("/")
    if family != row.families[0] and is_address_of(row, base, family, full=False):
        return base.removesuffix(_between(row, family))
    if not base.endswith(row.version_path):
        base += row.version_path
    other = row.family_urls.get(family)
    if other is None:
        return base
    own, there = urlsplit(row.base_url or "").path, urlsplit(other).path
    return base + there.removeprefix(own) if there.startswith(own) else base.removesuffix(own) + there


def _shown(template: str, row: ProviderRow) -> str:
    for name, place in row.placeholders.items():
        template = template.replace(f"{{{name}}}", place.form.replace("{}", f"{{{place.variables[0]}}}"))
    return template


def _filled(template: str, row: ProviderRow, config: LLMConfig) -> str:
    host = urlsplit(template).netloc
    for name, place in row.placeholders.items():
        if f"{{{name}}}" not in template:
            continue
        variable, value = config.variable_for(place.variables) or (place.variables[0], str(place.default))
        shape = "segment" if f"{{{name}}}" not in host else "host" if _is_host(host, name, place) else "label"
        filled = place.forms.get(value) or place.form.replace("{}", _checked(value, shape, variable, row))
        # No value that passed the check holds a brace, so none is taken for a further placeholder.
        template = template.replace(f"{{{name}}}", filled)
    return template


def _is_host(host: str, name: str, place: Placeholder) -> bool:
    return host == f"{{{name}}}" and place.form == "{}"


def _checked(value: str, shape: str, variable: str, row: ProviderRow) -> str:
    if shape == "host":
        # Vendors' own tools take the same variable as a URL.
        value = value.removeprefix("https://").rstrip("/")
        fits = "." in value and all(_LABEL.fullmatch(label) for label in value.split("."))
    else:
        fits = (_LABEL if shape == "label" else _SEGMENT).fullmatch(value) is not None
    if not fits:
        raise ConfigurationError(
            f"{variable} cannot stand in the address of {row.name}, {shown_url(row)}: it must be {_SHAPES[shape]};"
            f" correct it, or set {row.name.upper()}_BASE_URL"
        )
    return value
