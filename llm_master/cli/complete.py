"""
The names of models: for lists, for completion in the shell, and for a name that is nearly right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.catalogue import load_models
from llm_master.classes import ModelRegistry
from llm_master.errors import LLMError
from llm_master.resolution import names_to_ask, resolve
from llm_master.response_synthesizer import QueryLLM
from llm_master.rows import ProviderRow

__all__ = ["complete_model", "complete_provider", "known_models", "near_models"]

_SHOWN = 3
_ALIKE = 0.75


def _rows() -> dict[str, ProviderRow]:
    return {name: row_of(name) for name in UnifiedProvider.PROVIDER_CONFIGS}


def _names_to_ask(models: Mapping[str, Iterable[str]], rows: dict[str, ProviderRow]) -> list[tuple[str, str]]:
    return names_to_ask(models, rows=rows, registry=ModelRegistry.CONFIGS, provider_map=QueryLLM.provider_map)


def known_models() -> list[tuple[str, str, str]]:
    """Every model that is known: (the name to ask for it, provider, ``live`` or ``retired``), sorted by name."""
    rows = _rows()
    known = {provider: each for provider, each in load_models().items() if provider in rows}
    found: dict[tuple[str, str], str] = {}
    for state in ("live", "retired"):
        models = {provider: each.models if state == "live" else each.retired for provider, each in known.items()}
        for name, provider in _names_to_ask(models, rows):
            found[(name, provider)] = state
    for key, row in rows.items():
        if row.default_model is not None:
            found[(key, key)] = "live"
    for name, config in ModelRegistry.CONFIGS.items():
        found.setdefault((name, config.provider or ""), "live")
    return sorted((name, provider, state) for (name, provider), state in found.items())


def complete_model(incomplete: str) -> list[str]:
    """The names of live models that begin with what was typed."""
    return sorted({name for name, _, state in known_models() if state == "live" and name.startswith(incomplete)})


def complete_provider(incomplete: str) -> list[str]:
    """The keys of providers that begin with what was typed."""
    return sorted(name for name in UnifiedProvider.PROVIDER_CONFIGS if name.startswith(incomplete))


def near_models(model_name: str) -> tuple[str, ...]:
    """
    Known models of the same provider that a name is likely a misspelling of, the nearest first.

    Empty when the name is known, leads nowhere, or is like none.
    """
    rows = _rows()
    try:
        route = resolve(model_name, rows=rows, registry=ModelRegistry.CONFIGS, provider_map=QueryLLM.provider_map)
    except LLMError:
        return ()
    known = load_models().get(route.provider or "")
    if known is None or route.provider is None:
        return ()
    lower = {model.lower(): model for model in known.models}
    if route.model.lower() in {*lower, *(model.lower() for model in known.retired)}:
        return ()
    near = difflib.get_close_matches(route.model.lower(), lower, _SHOWN, _ALIKE)
    models = {route.provider: [lower[each] for each in near]}
    return tuple(name for name, _ in _names_to_ask(models, rows))
