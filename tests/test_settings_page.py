"""
``docs/settings.md`` lists every environment variable that the code reads, and no other.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from llm_master.catalogue import load_rows
from llm_master.providers.local import Settings
from llm_master.rows import ProviderRow

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
LISTED = {name for cells in ROWS for name in re.findall(r"`([A-Z{][A-Z0-9_{}]+)`", cells[1])}
WORD = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
LOCAL = {f"LLM_MASTER_LOCAL_{name.upper()}" for name in Settings._fields}
SUFFIXES = {"API_KEY", "API_URL", "BASE_URL", "RESPONSE_FORMAT_FILE", "USE_PROMPT_CACHING"}


def rows() -> list[ProviderRow]:
    return [ProviderRow.parse(key, row) for key, row in load_rows().items()]


def of_addresses() -> set[str]:
    found = {name for row in rows() for name in row.base_variables}
    found |= {name for row in rows() for place in row.placeholders.values() for name in place.variables}
    return found | {name for row in rows() for names in row.header_variables.values() for name in names}


def in_code() -> set[str]:
    """Names in the code that begin as ours do, or are read from the environment right there."""
    found = set()
    for path in (ROOT / "llm_master").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
                if node.value.startswith(("LLM_", "STATEK_")):
                    found.add(node.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("environ.get", "getenv")):
                found |= {
                    each.value for each in node.args if isinstance(each, ast.Constant) and WORD.fullmatch(each.value)
                }
    signed = (ROOT / "llm_master" / "sigv4.py").read_text(encoding="utf-8")
    return found | set(re.findall(r'"(AWS_[A-Z_]+)"', signed))


def test_the_page_lists_what_the_code_reads() -> None:
    wanted = in_code() | of_addresses() | LOCAL | {f"{{PROVIDER}}_{suffix}" for suffix in SUFFIXES}
    assert len(wanted) > 30
    assert wanted - LISTED == set()
    assert LISTED - wanted == set()


def test_the_embedded_models_defaults() -> None:
    shown = {cells[1].strip(" `"): cells[3].strip() for cells in ROWS}
    for name, value in Settings._field_defaults.items():
        if name != "threads":
            assert shown[f"LLM_MASTER_LOCAL_{name.upper()}"] == str(value)
    assert str(Settings().threads) in shown["LLM_MASTER_LOCAL_THREADS"]
