"""
How price data is read: once, without the package's own machinery, off the event loop, and whole in a forked process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok
from support.command import run
from support.fault_server import FaultServer

from llm_master import Budget, LLMConfig, QueryLLM, Usage
from llm_master.prices import LOADING, package, store
from llm_master.pricing import cost_of, is_loaded, load


def test_what_is_read_quickly_is_what_the_package_says() -> None:
    quick, slow = package.from_source(), package.from_import()
    assert list(quick) == list(slow)
    for name, sheet in slow.items():
        assert quick[name] == sheet, name
    models = [model for sheet in quick.values() for model in sheet.models]
    assert len(models) > 2_000
    assert sum(len(model.periods()) for model in models) > len(models)
    assert sum(len(model.price_variants) for model in models) > 200


@pytest.mark.parametrize(
    "data",
    [
        "providers = None\n",
        "from .types import *\nproviders = [Provider(id='x', models=[ModelInfo(id='y', match=ClauseSounds())])]\n",
        "raise RuntimeError('not for you')\n",
        "from .somewhere import *\n",
    ],
)
def test_another_version_is_imported_as_any_package_is(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "genai_prices"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "data.py").write_text(data)
    expected = package.from_import()  # imported before the other one stands in front of it
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "genai_prices"]:
        if name == "genai_prices":
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(Exception, match=r".*"):
        package.from_source()
    found, version = package.from_package()
    assert (found, version) == (expected, "0.2.3")


def test_a_price_loads_no_framework(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from llm_master import Usage, cost_of\n"
        "print(cost_of(Usage(1000, 10), 'gpt-4o').total)\n"
        "print([n for n in ('pydantic', 'httpx2', 'httpx', 'genai_prices', 'requests') if n in sys.modules])\n"
    )
    done = run(folder=tmp_path, command=(sys.executable, "-W", "error", "-c", program))
    assert (done.code, done.out.split("\n")[:2]) == (0, ["0.0026", "[]"]), done.err


def test_a_fork_waits_until_the_prices_are_read() -> None:
    begun, go = threading.Event(), threading.Event()

    def loads() -> None:
        with LOADING:
            begun.set()
            assert go.wait(10)
            load()

    thread = threading.Thread(target=loads)
    thread.start()
    assert begun.wait(10)
    threading.Timer(0.02, go.set).start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # The child has the lock free and the data whole; without the wait it would stand still here for ever.
        try:
            found = cost_of(Usage(1_000, 0), "gpt-4o", provider="openai")
            os.write(write, str(LOADING.acquire(blocking=False) and found is not None and found.total).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"0.0025"
    os.waitpid(child, 0)
    thread.join(10)
    assert LOADING.acquire(blocking=False)
    LOADING.release()


@pytest.mark.parametrize("how", ["budget", "max_cost", "job"])
def test_the_event_loop_reads_nothing(how: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store.forget()
    where: list[threading.Thread] = []
    read = package.from_source

    def watched() -> dict[str, Any]:
        where.append(threading.current_thread())
        return read()

    monkeypatch.setattr(package, "from_source", watched)
    fault_server.script([ok("whole", usage=Usage(1_000, 0))])

    async def main() -> Any:
        config = LLMConfig(openai_api_key="k", base_urls={"openai": fault_server.url})
        budgets = [Budget("all", usd=1)] if how == "budget" else []
        async with QueryLLM(config, budgets=budgets) as llm:
            more: dict[str, Any] = {"max_cost": 1} if how == "max_cost" else {}
            with llm.track("job") if how == "job" else contextlib.nullcontext():
                return await llm.query("gpt-4o", "Hi", max_tokens=10, **more)

    response = asyncio.run(main())
    assert response.cost == Decimal("0.0025")
    assert is_loaded()
    assert len(where) == 1
    assert where[0] is not threading.main_thread()
