"""
Fixtures of all tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.fault_server import FaultServer

from llm_master.engine import shared_limiter
from llm_master.policy.budget import shared_budget

_ENDINGS = ("_KEY", "_TOKEN", "_TOKEN_BEDROCK", "_BASE_URL", "_API_URL", "_PROXY")
_OURS = ("LLM_MASTER_STATE_DIR", "LLM_MASTER_LIMITS", "LLM_PROVIDER", "LLM_DEFAULT_MODEL")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys, addresses and proxies of whoever runs it."""
    for name in list(os.environ):
        if name.upper().endswith(_ENDINGS) or name in _OURS:
            monkeypatch.delenv(name)
    # Nor writes into their ledger.
    monkeypatch.setenv("LLM_MASTER_LEDGER", "off")
    # Nor prices with what they have fetched.
    monkeypatch.setenv("LLM_MASTER_PRICES", "off")


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """No test lives off the retry budget or the limits that another has used."""
    shared_budget.cache_clear()
    shared_limiter.cache_clear()


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A provider on a loopback socket; it answers well until told otherwise."""
    with FaultServer() as server:
        yield server
