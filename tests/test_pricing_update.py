"""
Newer prices: fetched when asked for over a loopback socket, checked, kept in one piece, and used from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import redirect, status
from support.command import run
from support.fault_server import FaultServer

from llm_master import Usage
from llm_master.prices import store
from llm_master.pricing import cost_of, load

TODAY = datetime.now(UTC).date().isoformat()


def sheets(price: float = 7) -> list[dict[str, Any]]:
    """Price data as it is published, with one model that the installed package has and one that it has not."""
    models = [
        {"id": "gpt-4o", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": price, "output_mtok": 1}},
        {"id": "gpt-99", "match": {"equals": "gpt-99"}, "prices": {"input_mtok": 1, "output_mtok": 1}},
    ]
    other = [{"id": "any", "match": {"equals": "any"}, "prices": {}}]
    return [{"id": "openai", "models": models}, {"id": "anthropic", "models": other}, {"id": "google", "models": other}]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where fetched prices are kept in a test."""
    path = tmp_path / "data" / "prices.json"
    monkeypatch.setenv("LLM_MASTER_PRICES", str(path))
    store.forget()
    yield path
    store.forget()


def test_fetched_prices_are_used_from_then_on(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    before = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert before is not None
    assert before.total == Decimal("2.5")
    fault_server.route("/prices.json", [status(200, sheets())])
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--url", f"{fault_server.url}/prices.json", folder=tmp_path, env=env)
    assert done.code == 0, done.err
    assert "prices of 4 models at 3 providers" in done.err
    assert "3 models are new, 1 have other prices than in genai-prices 0.2.3" in done.err
    # This process still has what it has read; the next one, and this one when told, has the new prices.
    assert cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai") == before
    store.forget()
    after = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert after is not None
    assert after.total == 7
    assert after.source == f"genai-prices from {fault_server.url.partition('//')[2]}"
    assert after.as_of == TODAY
    assert [seen.path for seen in fault_server.requests] == ["/prices.json"]
    assert not any(name.lower() == "authorization" for seen in fault_server.requests for name, _ in seen.headers)


def test_json_says_the_hash_of_what_was_fetched(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    data = json.dumps(sheets()).encode()
    fault_server.route("/p", [status(200, data, content_type="application/json")])
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--json", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
    found = json.loads(done.out)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert (found["providers"], found["models"], found["as_of"], found["path"]) == (3, 4, TODAY, str(kept))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(404, {"error": "no"}), "answered 404 instead of prices"),
        (redirect("http://127.0.0.1:1/x"), "answered 30"),
        (status(200, {"not": "a list"}), "it is no price data"),
        (status(200, [{"id": "openai", "models": [{"id": "x"}]}]), "it is no price data"),
        (status(200, [{"id": "openai", "models": []}]), "it has no prices of anthropic, google, openai"),
        (status(200, sheets(-1)), "openai/gpt-4o has a price that is no amount of money"),
        (status(200, b'[{"id": "openai", "mod', content_type="application/json"), "it is no price data"),
    ],
)
def test_what_is_no_price_data_changes_nothing(
    answer: Any, said: str, fault_server: FaultServer, kept: Path, tmp_path: Path
) -> None:
    kept.parent.mkdir()
    store.keep(json.dumps(sheets(5)).encode(), "https://example.org/p", kept)
    old = kept.read_bytes()
    fault_server.route("/p", [answer])
    done = run(
        "models",
        "update",
        "--url",
        f"{fault_server.url}/p",
        folder=tmp_path,
        env={"LLM_MASTER_PRICES": str(kept)},
    )
    assert done.code == 1
    assert said in done.err
    assert done.err.count("\n") == 1
    assert kept.read_bytes() == old
    assert [path.name for path in kept.parent.iterdir()] == ["prices.json"]


def test_too_much_is_not_read(fault_server: FaultServer, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master.cli import prices
    from llm_master.errors import ProviderError

    monkeypatch.setattr(prices, "LARGEST", 100_000)
    fault_server.route("/p", [status(200, b"[" + b" " * 300_000 + b"]", content_type="application/json")])
    with pytest.raises(ProviderError, match=r"is larger than 0 MiB; prices are not: check the address"):
        prices.update_prices(f"{fault_server.url}/p", json_output=False)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("--url", "http://example.org/p"), {}, "prices are fetched over https only"),
        (("--url", "ftp://127.0.0.1/p"), {}, "prices are fetched over https only"),
        (("--url", "file:///etc/passwd"), {}, "prices are fetched over https only"),
        ((), {"LLM_MASTER_PRICES": "off"}, "LLM_MASTER_PRICES is off"),
    ],
)
def test_addresses_that_are_refused(arguments: tuple[str, ...], env: dict[str, str], said: str, tmp_path: Path) -> None:
    done = run("models", "update", *arguments, folder=tmp_path, env=env)
    assert done.code == 2
    assert said in done.err


def test_an_address_goes_with_update_only(tmp_path: Path) -> None:
    done = run("models", "gpt", "--url", "https://example.org/p", folder=tmp_path)
    assert done.code == 2
    assert "--url goes with update" in done.err


def test_a_server_that_is_not_there(kept: Path, tmp_path: Path) -> None:
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--url", "http://127.0.0.1:9/p", folder=tmp_path, env=env)
    assert done.code == 1
    assert "http://127.0.0.1:9/p cannot be reached (ConnectionError)" in done.err


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder"])
def test_a_damaged_file_is_told_and_the_package_used(damage: str, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    if damage == "folder":
        kept.mkdir(parents=True)
    else:
        store.keep(json.dumps(sheets()).encode(), "https://example.org/p", kept)
        data = kept.read_bytes()
        kept.write_bytes(
            {"cut": data[:-40], "changed": data.replace(b'"input_mtok": 7', b'"input_mtok": 8')}.get(damage, b"")
        )
    found = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert found is not None
    assert (found.total, found.source) == (Decimal("2.5"), "genai-prices 0.2.3")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "run llm-master models update, or remove the file" in caplog.text


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MASTER_PRICES", "OFF")
    assert store.data_path() is None
    monkeypatch.delenv("LLM_MASTER_PRICES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store.data_path() == tmp_path / "llm_master" / "prices.json"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.data_path() == tmp_path / ".local" / "share" / "llm_master" / "prices.json"


def test_many_threads_read_the_data_once(kept: Path) -> None:
    store.keep(json.dumps(sheets()).encode(), "https://example.org/p", kept)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(store.book())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(each) for each in found}) == 1


def test_prices_can_be_read_before_they_are_needed(kept: Path) -> None:
    store.keep(json.dumps(sheets()).encode(), "https://example.org/p", kept)
    load()
    os.unlink(kept)  # noqa: PTH108  # it has been read
    found = cost_of(Usage(1_000_000, 0), "gpt-99", provider="openai")
    assert found is not None
    assert found.total == 1


def test_nothing_is_fetched_by_itself(fault_server: FaultServer, tmp_path: Path) -> None:
    # A process without any way out prices a call.
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket')\n"
        "socket.socket.connect = refuse\n"
        "from llm_master import Usage, cost_of\n"
        "print(cost_of(Usage(1000, 10), 'gpt-4o').total)\n"
    )
    import sys

    done = run(folder=tmp_path, command=(sys.executable, "-W", "error", "-c", program))
    assert (done.code, done.out.strip()) == (0, "0.0026"), done.err
    assert fault_server.requests == []
