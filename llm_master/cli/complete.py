"""
Completion of model names in the shell.
"""

from __future__ import annotations

from llm_master.catalogue import load_models
from llm_master.classes import ModelRegistry

__all__ = ["complete_model", "known_models"]


def known_models() -> list[tuple[str, str, str]]:
    """Every model that is known by name: (name, provider, ``live`` or ``retired``), sorted."""
    found: dict[tuple[str, str], str] = {}
    for provider, known in load_models().items():
        for name in known.models:
            found[(name, provider)] = "live"
        for name in known.retired:
            found[(name, provider)] = "retired"
    for name, config in ModelRegistry.CONFIGS.items():
        found.setdefault((name, config.provider or ""), "live")
    return sorted((name, provider, state) for (name, provider), state in found.items())


def complete_model(incomplete: str) -> list[str]:
    """The live model names that begin with what was typed."""
    typed = incomplete.lower()
    return sorted({name for name, _, state in known_models() if state == "live" and name.lower().startswith(typed)})
