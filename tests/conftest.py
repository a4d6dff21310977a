"""
Fixtures of all tests.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from support.command import AUTHORITY
from support.fault_server import FaultServer

from llm_master.engine import shared_limiter
from llm_master.policy.budget import shared_budget

if TYPE_CHECKING:
    from support.postgres import Postgres
    from support.valkey import Valkey

_ENDINGS = ("_KEY", "_TOKEN", "_TOKEN_BEDROCK", "_BASE_URL", "_API_URL", "_PROXY")
_OURS = ("LLM_MASTER_STATE_DIR", "LLM_MASTER_LIMITS", "LLM_PROVIDER", "LLM_DEFAULT_MODEL")


# An example may take as long as a busy machine makes it take.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """
    Set up what every process of the tests inherits: few authorities, and compiled code.

    Where the system keeps none of that, it goes into the virtual environment: all workers read the same files.
    """
    os.environ["SSL_CERT_FILE"] = str(AUTHORITY)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in the background of a shell; the programs that tests start and interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.dont_write_bytecode and sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(sys.prefix) / "bytecode")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_sessionstart(session: pytest.Session) -> None:
    """
    Let each worker begin with other files than the others.

    All of them read every file of tests. What one has compiled the others find compiled, unless all compile the same
    file at the same time.
    """
    given = getattr(session.config, "workerinput", None)
    if given is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    first = len(names) * int(given["workerid"].removeprefix("gw")) // given["workercount"]
    for name in names[first:] + names[:first]:
        # A file that cannot be imported is reported when it is collected.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Let no collection of garbage look at what stays to the end, each test among it: that would take a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, _state: str) -> None:
    """No test sees the keys, addresses and proxies of whoever runs it."""
    for name in list(os.environ):
        if name.upper().endswith(_ENDINGS) or name in _OURS:
            monkeypatch.delenv(name)
    # Nor writes into their ledger.
    monkeypatch.setenv("LLM_MASTER_LEDGER", "off")
    # Nor counts in their budgets.
    monkeypatch.setenv("XDG_STATE_HOME", _state)
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger may be; there is none yet."""
    return tmp_path / "usage.sqlite3"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of one file."""
    from support.postgres import Postgres

    with Postgres() as server:
        yield server


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """An empty database of that PostgreSQL, by its address."""
    with postgres.database() as address:
        yield address


@pytest.fixture(scope="module")
def shared_valkey() -> Iterator[Valkey]:
    """A Valkey for the tests of one file, which may be one that others use: it is never frozen or stopped."""
    from support.valkey import valkey

    with valkey() as server:
        yield server


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey for one test, which may freeze and stop it."""
    from support.valkey import Valkey

    with Valkey() as server:
        yield server


@pytest.fixture
def provider_tables() -> Iterator[None]:
    """What a test enters in the tables of providers and models is gone after it."""
    from llm_master import ModelRegistry, QueryLLM, UnifiedProvider, base_provider

    tables: tuple[dict[str, Any], ...] = (
        base_provider._IMPLEMENTATIONS,
        UnifiedProvider.PROVIDER_CONFIGS,
        QueryLLM.provider_map,
        ModelRegistry.CONFIGS,
    )
    saved = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, saved, strict=True):
        table.clear()
        table.update(before)


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of whoever runs the test gives a provider its key, address or place."""
    from llm_master.base_provider import UnifiedProvider, row_of

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    for name in UnifiedProvider.PROVIDER_CONFIGS:
        row = row_of(name)
        places = [variable for place in row.placeholders.values() for variable in place.variables]
        for variable in (*row.key_variables, *row.base_variables, *places):
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a socket or a name's address fails the test."""
    import socket

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was asked for")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def amazon(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Amazon's own client of Bedrock; the service is the fault server."""
    import boto3
    from botocore.config import Config

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with contextlib.closing(
        boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=fault_server.url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            config=Config(retries={"max_attempts": 0}),
        )
    ) as client:
        yield client
