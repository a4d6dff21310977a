"""
What the user set for all calls of a provider: the shape of its answers and whether prefixes are kept.

``{PROVIDER}_RESPONSE_FORMAT_FILE`` names a JSON file that becomes ``response_format`` of each request which brings
none of its own; ``{PROVIDER}_USE_PROMPT_CACHING`` is a word for yes or no. ``add_provider`` and the settings file take
both by the same names in lower case; there they beat the environment. ``{PROVIDER}`` is the provider's key or an alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError, InvalidRequestError
from llm_master.prompt_caching import PARAMETER, ask_for_caching
from llm_master.redaction import shown

if TYPE_CHECKING:
    from llm_master.classes import Request
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["LARGEST_FILE", "Presets", "encoded", "preset", "yes_or_no"]

#: Bytes of a response format's file at most.
LARGEST_FILE = 1_000_000

_YES = ("true", "1", "yes", "on")
_NO = ("false", "0", "no", "off")


class Presets:
    """
    The settings of one provider.

    Args:
        provider: for messages of errors.
        file: path of the response format's file and where that path was given, None for no file.
        caching: whether prefixes are kept unless a call says otherwise.
    """

    __slots__ = ("_file", "_format", "_provider", "caching")

    def __init__(self, provider: str, file: tuple[str, str] | None, *, caching: bool) -> None:
        self._provider = provider
        self._file = file
        self._format: dict[str, Any] | None = None
        self.caching = caching

    @property
    def response_format(self) -> dict[str, Any] | None:
        """
        What the file holds, read when it is first asked for; None without a file.

        Raises:
            ConfigurationError: the file cannot be read, is too large, or holds no JSON object.
        """
        if self._format is None and self._file is not None:
            self._format = _read(self._provider, *self._file)
        return self._format


def _read(provider: str, path: str, origin: str) -> dict[str, Any]:
    from pathlib import Path

    from llm_master.schemas import wanted_of

    where = f"the response format of {provider} ({origin}): {path}"
    try:
        place = Path(path).expanduser()
        if place.exists() and not place.is_file():
            raise ConfigurationError(f"{where} is not a file; name a JSON file")
        with place.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"{where} cannot be read ({why}); correct the path") from error
    if len(data) > LARGEST_FILE:
        raise ConfigurationError(f"{where} has more than {LARGEST_FILE} bytes; give a smaller schema")
    try:
        found = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON ({error}); correct the file") from error
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ConfigurationError(f'{where} holds no object with a type, such as {{"type": "json_schema", ...}}')
    try:
        wanted = wanted_of(found)
    except InvalidRequestError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if wanted is not None and wanted.wrapped:
        # Nobody would take the answer out of the object that it would have to stand in.
        raise ConfigurationError(f"{where} holds the schema of something that is no object; give an object's")
    return found if wanted is None else wanted.response_format


def yes_or_no(value: Any, origin: str) -> bool:
    """
    A word for yes or no.

    Raises:
        ConfigurationError: it is none; ``origin`` says where it stands.
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in (*_YES, *_NO):
        raise ConfigurationError(f"{origin} is {shown(value)}; write true or false")
    return word in _YES


def preset(target: Any, config: LLMConfig, given: Mapping[str, Any] | None = None) -> None:
    """
    Give a target, and the one beside it, what is set for its provider.

    Args:
        target: a ``Target``.
        config: where the environment and ``.env`` are read.
        given: what the settings file says; beats ``add_provider``, which beats the environment.

    Raises:
        ConfigurationError: a word that means neither yes nor no.
    """
    if not hasattr(target, "presets"):
        return  # what it serves is no chat
    found = _presets(target.row, config, given or {})
    target.presets = found
    if target.other is not None:
        target.other.presets = found


def _presets(row: ProviderRow, config: LLMConfig, given: Mapping[str, Any]) -> Presets | None:
    file = _setting(row, config, given, "response_format_file")
    caching = _setting(row, config, given, PARAMETER)
    if file is None and caching is None:
        return None
    path = None if file is None else (str(file[0]), file[1])
    return Presets(row.name, path, caching=caching is not None and yes_or_no(caching[0], caching[1]))


def _setting(row: ProviderRow, config: LLMConfig, given: Mapping[str, Any], name: str) -> tuple[Any, str] | None:
    """A setting's value and where it was given."""
    if given.get(name) is not None:
        return given[name], f"{name} of [providers.{row.name}]"
    if row.given.get(name) is not None:
        return row.given[name], f"add_provider({row.name!r}, {name}=...)"
    names = (row.name, *row.aliases)
    found = config.variable_for([f"{_prefix(each)}_{name.upper()}" for each in names])
    # No secret: errors show it.
    return None if found is None else (str(found[1]), found[0])


def _prefix(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name.upper())


def encoded(target: Any, family: Any, request: Request) -> bytes:
    """
    The body of a request to a target whose presets, or the call, ask for more than is in the parameters.

    Args:
        family: the module of the target's wire family.

    Raises:
        ConfigurationError: the response format's file cannot be used.
        LLMError: as the family's ``encode``.
    """
    row, presets = target.row, target.presets
    params = dict(request.params)
    caching = params.pop(PARAMETER, None)
    if presets is not None:
        if caching is None:
            caching = presets.caching
        wanted = presets.response_format
        if wanted is not None and params.get("response_format") is None:
            params["response_format"] = wanted
    request.params = params
    ignored = False
    if caching:
        places = family.cache_places(target.dialect, request.model) if hasattr(family, "cache_places") else None
        ignored = not row.supports_caching or (places is not None and not places[0])
        if not ignored:
            ask_for_caching(request, row.caching.get(target.family), places)
    body: bytes = family.encode(request, target.dialect)
    if ignored:
        request.dropped = (*request.dropped, PARAMETER)
    return body
