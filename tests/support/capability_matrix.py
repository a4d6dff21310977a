"""
What every listed model takes, as it was when somebody last looked: one file a provider in ``tests/capabilities``.

After a change of rows, dialects or facts run ``python tests/support/capability_matrix.py``, and read ``git diff``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from llm_master.base_provider import row_of
from llm_master.capabilities import capabilities_of
from llm_master.catalogue import load_models

__all__ = ["FOLDER", "FUTURE", "matrix", "write"]

FOLDER = Path(__file__).resolve().parent.parent / "capabilities"
#: Names that nobody has seen yet, by provider.
FUTURE = {
    "openai": ("gpt-7", "gpt-7-mini", "o9", "gpt-99"),
    "anthropic": ("claude-opus-7", "claude-sonnet-6", "claude-haiku-9"),
    "gemini": ("gemini-5-pro", "gemini-6-flash"),
    "bedrock": ("us.anthropic.claude-opus-7",),
    "mistral": ("mistral-huge-9",),
    "deepseek": ("deepseek-v9",),
    "xai": ("grok-9",),
    "cohere": ("command-z-2030",),
    "groq": ("vendor/unheard-of-1",),
}
# What another test looks at, and what changes with each reading of a source.
_LEFT_OUT = ("model", "provider", "sources")


def matrix(provider: str) -> dict[str, dict[str, Any]]:
    """Model and API family -> flags, for what is listed of a provider and for names to come."""
    row = row_of(provider)
    known = load_models()[provider]
    found = {}
    for model in (*known.models, *known.retired, *FUTURE.get(provider, ())):
        for family in row.families:
            api = None if family == row.families[0] else family
            flags = msgspec.to_builtins(capabilities_of(row, model, family=family, api=api))
            found[f"{model} {family}"] = {name: flags[name] for name in flags if name not in _LEFT_OUT}
    return found


def write() -> None:
    """Write all files anew, and remove those of providers that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.json"):
        file.unlink()
    for provider in load_models():
        lines = [f"  {json.dumps(name)}: {json.dumps(flags)}" for name, flags in matrix(provider).items()]
        (FOLDER / f"{provider}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
