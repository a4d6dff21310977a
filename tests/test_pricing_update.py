"""
Newer prices: fetched when asked for over a loopback socket, checked, kept in one piece, and used from then on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.behaviours import hold, ok, redirect, reset, status
from support.command import run
from support.exchange import Exchange
from support.fault_server import FaultServer

from llm_master import Usage
from llm_master.cli import prices
from llm_master.errors import ProviderError
from llm_master.prices import store
from llm_master.prices.package import from_source
from llm_master.pricing import cost_of, load

TODAY = datetime.now(UTC).date().isoformat()
_PUBLISHED = msgspec.json.Encoder(decimal_format="number")


def sheets(price: float | str = 7, *, most: int | None = None) -> list[dict[str, Any]]:
    """
    Price data as it is published: that of the installed package with another price, a new model and without an old one.

    Args:
        price: of a million tokens read by gpt-4o.
        most: models of each provider at most.
    """
    found: list[dict[str, Any]] = msgspec.json.decode(_PUBLISHED.encode(list(from_source().values())))
    for sheet in found:
        sheet["models"] = sheet["models"][:most]
        if sheet["id"] == "openai":
            model = {"match": {"equals": "gpt-99"}, "prices": {"input_mtok": 1, "output_mtok": 1}}
            kept = [each for each in sheet["models"] if each["id"] != "gpt-4o-mini"]
            sheet["models"] = [*kept, {"id": "gpt-99", **model}]
            for each in kept:
                if each["id"] == "gpt-4o":
                    each["prices"]["input_mtok"] = price
    return found


def data(price: float = 7) -> bytes:
    return json.dumps(sheets(price)).encode()


def json_status(body: Any) -> Any:
    return status(200, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type="application/json")


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
    fault_server.route("/prices.json", [json_status(data())])
    env = {"LLM_MASTER_PRICES": str(kept)}
    address = f"{fault_server.url}/prices.json?token=secret-0123"
    done = run("models", "update", "--url", address, folder=tmp_path, env=env)
    assert done.code == 0, done.err
    assert "prices of 2,330 models at 47 providers" in done.err
    assert "1 models are new, 1 are gone, 1 have other prices than in genai-prices 0.2.3" in done.err
    assert done.out.split("\n")[0] == "openai/gpt-4o\tinput_mtok\t2.5\t7"
    # What may be a secret is shown nowhere and kept nowhere.
    assert "secret-0123" not in done.err + done.out + kept.read_text()
    # This process still has what it has read; the next one, and this one when told, has the new prices.
    assert cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai") == before
    store.forget()
    after = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert after is not None
    assert after.total == 7
    assert after.source == f"genai-prices from {fault_server.url.partition('//')[2]}"
    assert after.as_of == TODAY
    assert [seen.path for seen in fault_server.requests] == ["/prices.json?token=secret-0123"]
    assert not any(name.lower() == "authorization" for seen in fault_server.requests for name, _ in seen.headers)


def test_json_says_the_hash_of_what_was_fetched(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    fetched = data()
    fault_server.route("/p", [json_status(fetched)])
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--json", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
    found = json.loads(done.out)
    assert found["sha256"] == hashlib.sha256(fetched).hexdigest()
    assert (found["providers"], found["models"], found["as_of"], found["path"]) == (47, 2330, TODAY, str(kept))
    assert (found["new"], found["gone"]) == (["openai/gpt-99"], ["openai/gpt-4o-mini"])
    assert found["changed"] == [{"model": "openai/gpt-4o", "price": "input_mtok", "before": "2.5", "now": "7"}]


def test_a_check_keeps_nothing(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    fault_server.route("/p", [json_status(data())])
    for value in (str(kept), "off"):
        env = {"LLM_MASTER_PRICES": value}
        done = run("models", "update", "--check", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
        assert (done.code, done.out) == (0, "openai/gpt-4o\tinput_mtok\t2.5\t7\n"), done.err
        assert "1 have other prices" in done.err
        assert "nothing was kept" in done.err
    assert not kept.exists()


def test_many_changes_are_cut(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    found = sheets()
    for sheet in found:
        for model in sheet["models"]:
            if isinstance(model["prices"], dict) and "output_mtok" in model["prices"]:
                model["prices"]["output_mtok"] = {"base": 1, "tiers": [{"start": 5, "price": 2.5}]}
    fault_server.route("/p", [json_status(found)])
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 40
    assert lines[0].endswith("\toutput_mtok\t24\t1, 2.5 over 5")
    assert "more prices differ; --json has all of them" in done.err


def bodies() -> dict[str, tuple[Any, str]]:
    """What a server may give instead of prices, and what is said of it."""
    good = data()
    none = [{"id": name, "models": [{"id": "x", "match": {"equals": "x"}, "prices": {}}]} for name in BIG]
    few = [{"id": name, "models": [{"id": "x", "match": {"equals": "x"}, "prices": {"input_mtok": 1}}]} for name in BIG]
    return {
        "404": (status(404, {"error": "no"}), "answered 404 instead of prices"),
        "500": (status(500, "<html>"), "answered 500 instead of prices"),
        "204": (status(204, b""), "answered 204 instead of prices"),
        "to http": (redirect("http://127.0.0.1:1/x"), "answered 307 instead of prices"),
        "to https": (redirect("https://127.0.0.1:1/x", 301), "answered 301 instead of prices"),
        "an object": (json_status({"not": "a list"}), "it is no price data"),
        "html": (status(200, "<html>Sign in</html>", content_type="text/html"), "it is no price data"),
        "nothing": (json_status(b""), "it is no price data"),
        "null": (json_status(b"null"), "it is no price data"),
        "deep": (json_status(b"[" * 100_000), "it is no price data"),
        "no prices": (json_status([{"id": "openai", "models": [{"id": "x"}]}]), "it is no price data"),
        "no models": (json_status([{"id": "openai", "models": []}]), "it has no prices of anthropic, google, openai"),
        "empty prices": (json_status(none), "it has no prices of anthropic, google, openai"),
        "too few": (json_status(few), "it has prices of 3 models, and genai-prices"),
        "a tenth": (json_status(sheets(most=5)), "it has prices of"),
        "negative": (json_status(sheets(-1)), "openai/gpt-4o has a price that is no amount of money"),
        "NaN": (json_status(sheets(float("nan"))), "it is no price data"),
        "a text": (json_status(sheets("dear")), "it is no price data"),
        "Infinity": (json_status(sheets("Infinity")), "no amount of money"),
        "cut": (json_status(good[: len(good) // 2]), "it is no price data"),
        "cut off": (cut(good, len(good) // 2), "cannot be reached (ClientPayloadError)"),
        "reset": (reset, "cannot be reached ("),
        "cut gzip": (cut(gzip.compress(good), 50_000, [("Content-Encoding", "gzip")]), "cannot be reached ("),
    }


BIG = ("openai", "anthropic", "google")


def cut(body: bytes, length: int, headers: list[tuple[str, str]] | None = None) -> Any:
    """A body of which a part comes, and then the end of the connection."""

    async def behave(x: Exchange) -> None:
        await x.send(x.head(200, [("Content-Type", "application/json"), *(headers or [])], framing=len(body)))
        await x.send(body[:length])
        x.close()

    return behave


def test_what_is_no_price_data_changes_nothing(
    fault_server: FaultServer, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.mkdir()
    store.keep(data(5), "https://example.org/p", kept)
    old = kept.read_bytes()
    for name, (answer, said) in bodies().items():
        fault_server.route("/p", [answer])
        with pytest.raises(ProviderError) as caught:
            prices.update_prices(f"{fault_server.url}/p", json_output=False)
        assert said in str(caught.value), name
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400, name
        assert kept.read_bytes() == old, name
        assert [path.name for path in kept.parent.iterdir()] == ["prices.json"]
    store.forget()
    found = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert found is not None
    assert found.total == 5


def test_the_command_says_it_in_one_line(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    fault_server.route("/p", [status(500)])
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"error: {fault_server.url}/p answered 500 instead of prices; try again or give --url\n"
    assert not kept.exists()


async def drops(x: Exchange) -> None:
    """A byte now and then, for ever: no pause is long."""
    await x.send(x.head(200, [("Content-Type", "application/json")]))
    for _ in range(1_000):
        await x.chunk(b" ")
        await x.hold(0.01)


@pytest.mark.parametrize("slow", [hold(), drops], ids=["silent", "drop by drop"])
def test_it_takes_no_longer_than_it_may(
    slow: Any, fault_server: FaultServer, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "SECONDS", 0.2)
    fault_server.route("/p", [slow])
    with pytest.raises(ProviderError, match=r"/p did not answer within 0\.2 seconds; try again or give --url"):
        prices.update_prices(f"{fault_server.url}/p", json_output=False)
    assert not kept.exists()


def test_a_file_that_cannot_be_written_is_told(fault_server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    fault_server.route("/p", [json_status(data())])
    for path, why in (("file/prices.json", "File exists"), ("folder", "Is a directory")):
        env = {"LLM_MASTER_PRICES": str(tmp_path / path)}
        done = run("models", "update", "--url", f"{fault_server.url}/p", folder=tmp_path, env=env)
        assert done.code == 2
        assert (
            done.err
            == f"error: {env['LLM_MASTER_PRICES']} cannot be written ({why}); set LLM_MASTER_PRICES to another path\n"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_proxy_of_the_environment_is_asked(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    fault_server.script([status(403)])
    env = {"LLM_MASTER_PRICES": str(kept), "HTTPS_PROXY": fault_server.url}
    done = run("models", "update", "--url", "https://prices.example.org/p", folder=tmp_path, env=env)
    assert done.code == 1
    assert "https://prices.example.org/p cannot be reached (ClientHttpProxyError); check the network" in done.err
    assert [(seen.method, seen.path) for seen in fault_server.requests] == [("CONNECT", "prices.example.org:443")]
    env["NO_PROXY"] = "example.org"
    done = run("models", "update", "--url", "https://localhost.example.org:9/p", folder=tmp_path, env=env)
    assert done.code == 1
    assert len(fault_server.requests) == 1


def test_too_much_is_not_read(fault_server: FaultServer, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "LARGEST", 100_000)
    large = b"[" + b" " * 300_000 + b"]"
    packed = status(200, gzip.compress(large), [("Content-Encoding", "gzip")], content_type="application/json")
    for answer in (json_status(large), packed):
        fault_server.route("/p", [answer])
        with pytest.raises(ProviderError, match=r"is larger than 0 MiB; prices are not: check the address"):
            prices.update_prices(f"{fault_server.url}/p", json_output=False)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("--url", "http://example.org/p"), {}, "prices are fetched over https only"),
        (("--url", "ftp://127.0.0.1/p"), {}, "prices are fetched over https only"),
        (("--url", "file:///etc/passwd"), {}, "prices are fetched over https only"),
        (("--url", "https://"), {}, "prices are fetched over https only"),
        (("--url", "https://[::1"), {}, "prices are fetched over https only"),
        (("--url", "http://localhost.example.org/p"), {}, "prices are fetched over https only"),
        (("--url", "https://me:secret-0123@example.org/p"), {}, "an address of prices holds no user and no password"),
        ((), {"LLM_MASTER_PRICES": "off"}, "LLM_MASTER_PRICES is off"),
    ],
)
def test_addresses_that_are_refused(arguments: tuple[str, ...], env: dict[str, str], said: str, tmp_path: Path) -> None:
    done = run("models", "update", *arguments, folder=tmp_path, env=env)
    assert done.code == 2
    assert said in done.err
    assert "secret-0123" not in done.err


def test_an_address_goes_with_update_only(tmp_path: Path) -> None:
    done = run("models", "gpt", "--url", "https://example.org/p", folder=tmp_path)
    assert done.code == 2
    assert "--url goes with update" in done.err
    done = run("models", "gpt", "--check", folder=tmp_path)
    assert done.code == 2
    assert "--check goes with update" in done.err


def test_a_server_that_is_not_there(kept: Path, tmp_path: Path) -> None:
    env = {"LLM_MASTER_PRICES": str(kept)}
    done = run("models", "update", "--url", "http://127.0.0.1:9/p", folder=tmp_path, env=env)
    assert done.code == 1
    assert "http://127.0.0.1:9/p cannot be reached (ClientConnectorError); check" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder"])
def test_a_damaged_file_is_told_and_the_package_used(damage: str, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    if damage == "folder":
        kept.mkdir(parents=True)
    else:
        store.keep(data(), "https://example.org/p", kept)
        whole = kept.read_bytes()
        kept.write_bytes(
            {"cut": whole[:-40], "changed": whole.replace(b'"input_mtok": 7', b'"input_mtok": 8')}.get(damage, b"")
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


def test_off_means_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("LLM_MASTER_PRICES", raising=False)
    path = store.data_path()
    assert path is not None
    store.keep(data(), "https://example.org/p", path)
    for value, expected in (("off", Decimal("2.5")), (None, Decimal(7)), (str(tmp_path / "none"), Decimal("2.5"))):
        if value is None:
            monkeypatch.delenv("LLM_MASTER_PRICES")
        else:
            monkeypatch.setenv("LLM_MASTER_PRICES", value)
        store.forget()
        found = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
        assert found is not None
        assert found.total == expected
    store.forget()


@pytest.mark.parametrize(
    ("version", "changes_until", "expected"),
    [
        # The package is the one that was there: what was fetched is newer.
        (None, "2020-01-01", "7"),
        ("0.2.3", "2020-01-01", "7"),
        # Another package is there now: whichever knows of the later change is newer.
        ("0.2.2", "2020-01-01", "2.5"),
        ("0.2.2", "2999-01-01", "7"),
    ],
)
def test_a_package_that_was_installed_since_may_be_newer(
    version: str | None, changes_until: str, expected: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [sheet for sheet in sheets() if sheet["id"] in BIG]
    for sheet in found:
        sheet["models"] = [each for each in sheet["models"] if isinstance(each["prices"], dict)]
        for model in sheet["models"]:
            model.pop("price_variants", None)
    period = {"constraint": {"start_date": changes_until}, "prices": {"input_mtok": 1}}
    found[0]["models"].append({"id": "x", "match": {"equals": "x"}, "prices": [period]})
    if version is not None:
        monkeypatch.setattr(store, "installed_version", lambda: version)
    store.keep(json.dumps(found).encode(), "https://example.org/p", kept)
    monkeypatch.undo()
    monkeypatch.setenv("LLM_MASTER_PRICES", str(kept))
    if version is None:
        kept.write_bytes(kept.read_bytes().replace(b',"installed":"0.2.3"', b""))
    store.forget()
    cost = cost_of(Usage(1_000_000, 0), "gpt-4o", provider="openai")
    assert cost is not None
    assert cost.total == Decimal(expected)


def test_many_threads_read_the_data_once(kept: Path) -> None:
    store.keep(data(), "https://example.org/p", kept)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(store.book())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(each) for each in found}) == 1


def test_prices_can_be_read_before_they_are_needed(kept: Path) -> None:
    store.keep(data(), "https://example.org/p", kept)
    load()
    os.unlink(kept)  # noqa: PTH108  # it has been read
    found = cost_of(Usage(1_000_000, 0), "gpt-99", provider="openai")
    assert found is not None
    assert found.total == 1


def test_nothing_is_fetched_by_itself(fault_server: FaultServer, kept: Path, tmp_path: Path) -> None:
    """A call, its price, a budget, a job and the ledger connect to nothing but the provider, also where data is old."""
    kept.parent.mkdir()
    store.keep(data(), "https://example.org/p", kept)
    kept.write_bytes(kept.read_bytes().replace(f'"fetched":"{TODAY[:4]}'.encode(), b'"fetched":"2020'))
    fault_server.script([ok("Hi", usage=Usage(1_000, 10))])
    program = (
        "import asyncio, socket\n"
        "from llm_master import Budget, LLMConfig, QueryLLM, Usage, cost_of\n"
        f"port = {fault_server.port}\n"
        "def watched(old):\n"
        "    def connect(self, address, *rest):\n"
        "        if self.family != socket.AF_UNIX and address[1] != port:\n"
        "            raise AssertionError(f'a socket to {address}')\n"
        "        return old(self, address, *rest)\n"
        "    return connect\n"
        "for name in ('connect', 'connect_ex'):\n"
        "    setattr(socket.socket, name, watched(getattr(socket.socket, name)))\n"
        "def looked_up(*given, **more): raise AssertionError(f'a name was looked up: {given}')\n"
        "socket.getaddrinfo = looked_up\n"
        "async def main():\n"
        f"    config = LLMConfig(openai_api_key='k', base_urls={{'openai': {fault_server.url!r}}})\n"
        "    async with QueryLLM(config, budgets=[Budget('all', usd=5)]) as llm:\n"
        "        with llm.track('job') as job:\n"
        "            response = await llm.query('openai/gpt-4o', 'Hi', max_tokens=10)\n"
        "        print(response.cost, job.total_cost, cost_of(Usage(1000, 10), 'gpt-4o').total)\n"
        "asyncio.run(main())\n"
    )
    env = {"LLM_MASTER_PRICES": str(kept), "LLM_MASTER_LEDGER": str(tmp_path / "ledger.sqlite3")}
    done = run(folder=tmp_path, command=(sys.executable, "-W", "error", "-c", program), env=env)
    assert (done.code, done.out) == (0, "0.0071 0.0071 0.0071\n"), done.err
    assert [seen.path.rpartition("/")[2] for seen in fault_server.requests] == ["completions"]
