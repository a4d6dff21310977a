"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.dialect_gemini import GeminiDialect, GeminiModel
from llm_master.errors import UnsupportedParameterError

__all__ = ["SCHEMA_TOOL", "Draft", "camel", "camel_keys", "merged", "rules_for", "takes_prefill"]

#: The function whose arguments are the answer, for models that cannot give JSON beside functions.
SCHEMA_TOOL = "structured_answer"

# A name is matched against dozens of patterns. The entry holds the dialect itself, so that its id cannot come to mean
# another one.
_KNOWN: dict[tuple[int, str], tuple[GeminiDialect, GeminiModel]] = {}
_MOST = 1024


def rules_for(dialect: GeminiDialect, model: str) -> GeminiModel:
    """What a model takes, resolved once for a name."""
    key = (id(dialect), model)
    known = _KNOWN.get(key)
    if known is not None:
        return known[1]
    rules = dialect.model(model)
    if len(_KNOWN) >= _MOST:
        _KNOWN.clear()
    _KNOWN[key] = (dialect, rules)
    return rules


def takes_prefill(dialect: GeminiDialect, model: str) -> bool:
    """Whether the model goes on with an assistant's turn that stands last."""
    return rules_for(dialect, model).prefill


def camel(name: str) -> str:
    """``snake_case`` as the API spells it; a name that is so already stays."""
    if "_" not in name:
        return name
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def camel_keys(value: Any) -> Any:
    """A copy of a configuration with every key as the API spells it."""
    if isinstance(value, dict):
        return {camel(key): camel_keys(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [camel_keys(each) for each in value]
    return value


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two bodies as one: where both hold an object its fields are merged, else ``over`` wins."""
    result = dict(base)
    for name, value in over.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


class Draft:
    """
    One request on its way to a body.

    Attributes:
        params: the caller's parameters without those that are None.
        body: the body so far; ``config`` is its ``generationConfig``.
        dropped: what was left out, in order.
        system: the texts of the system prompt.
    """

    __slots__ = ("body", "config", "dialect", "dropped", "params", "request", "rules", "system")

    def __init__(self, request: Request, dialect: GeminiDialect) -> None:
        self.request = request
        self.dialect = dialect
        self.rules = rules_for(dialect, request.model)
        given = request.params
        self.params: dict[str, Any] = {name: given[name] for name in given if given[name] is not None} if given else {}
        self.body: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.dropped: list[str] = []
        self.system: list[str] = []

    @property
    def target(self) -> str:
        """Provider and model, as error messages name them."""
        return f"{self.request.provider} model {self.request.model!r}"

    def drop(self, name: str) -> None:
        """Note that something was left out."""
        if name not in self.dropped:
            self.dropped.append(name)

    def refuse(self, parameter: str, why: str, instead: str = "leave it out") -> None:
        """
        Leave a parameter out with drop_params.

        Raises:
            UnsupportedParameterError: without drop_params.
        """
        if not self.request.drop_params:
            raise UnsupportedParameterError(
                f"{self.target} cannot take {parameter!r}: {why}; {instead}, or set drop_params=True",
                parameter=parameter,
            )
        self.drop(parameter)
