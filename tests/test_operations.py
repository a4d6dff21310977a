"""
What providers serve beside chat: golden files of each form, the facts behind them, and counts made on this machine.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import ConfigurationError, InvalidRequestError, LLMConfig, QueryLLM, UnifiedProvider
from llm_master.base_provider import row_of
from llm_master.catalogue import load_operations, load_rows
from llm_master.operations import FORMS, NOUNS, operation_of, serving
from llm_master.policy.limits import MemoryLimiter
from llm_master.rows import ProviderRow
from llm_master.sound import MAX_AUDIO_BYTES, read_sound, sound_mime
from llm_master.wire.openai_audio_multipart import form

FOLDER = Path(__file__).parent / "wire" / "operations"
SCENARIOS = sorted(path.stem for path in FOLDER.glob("*.json"))
BASES = {
    "openai": "/openai/v1",
    "mistral": "/mistral/v1",
    "voyage": "/voyage/v1",
    "cohere": "/cohere/v2",
    "gemini": "/gemini/v1beta",
}


# Golden files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_golden_file(name: str, fault_server: FaultServer) -> None:
    scenario = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    fault_server.default = status(200, scenario["response"])
    method, model, *args, options = scenario["call"]

    async def main() -> Any:
        keys = {f"{name}_api_key": f"sk-{name}-0123456789" for name in BASES}
        config = LLMConfig(**keys, base_urls={name: fault_server.url + path for name, path in BASES.items()})
        async with QueryLLM(config, limiter=MemoryLimiter()) as llm:
            if method == "moderate":
                return await llm.moderate(*args, model_name=model, **options)
            return await getattr(llm, method)(model, *args, **options)

    found = asyncio.run(main())
    (seen,) = fault_server.requests
    assert (seen.path, seen.json) == (scenario["path"], scenario["request"])
    assert seen.header("Content-Type") == "application/json"
    expected = scenario["expected"]
    assert found.usage.input_tokens == expected.pop("input_tokens")
    if "cost" in expected:
        cost = expected.pop("cost")
        assert found.cost == (None if cost is None else Decimal(cost))
    if "results" in expected:
        ranks = [[each.index, each.score, each.document] for each in found.results]
        assert ranks == expected.pop("results")
    assert {field: getattr(found, field) for field in expected} == expected


# Facts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", sorted(load_operations()))
def test_what_a_provider_serves_is_sourced_and_fits_its_row(provider: str) -> None:
    facts, row = load_operations()[provider], row_of(provider)
    assert facts["source"]
    assert facts["checked"] == "2026-11-21"
    assert row.status == "live"
    served = {name: operation_of(row, name) for name in NOUNS}
    assert {name for name, each in served.items() if each} == facts.keys() - {"source", "checked"}
    for name, operation in served.items():
        if operation is None:
            continue
        assert operation.path.startswith("/")
        assert operation.family is None or operation.family in row.families
        assert operation.root or not operation.path.startswith("/v1")
        assert not set(operation.words) & set(operation.drop)
        assert callable(importlib.import_module(FORMS[name][operation.form]).encode)


def test_chat_only_providers_and_the_users_own_rows() -> None:
    assert serving("embed")[0] == "azure"
    assert {"cohere", "voyage", "together"} <= set(serving("rerank"))
    for name in NOUNS:
        assert operation_of(row_of("deepseek"), name) is None
    own = ProviderRow.parse("mine", {"base_url": "http://127.0.0.1:1/v1"})
    assert {name for name in NOUNS if operation_of(own, name)} == NOUNS.keys() - {"count"}
    only = ProviderRow.parse("mine", {"operations": {"embed": {"path": "/vectors", "inputs": 3}}})
    found = operation_of(only, "embed")
    assert found is not None
    assert (found.path, found.inputs, operation_of(only, "rerank")) == ("/vectors", 3, None)
    wrong = ProviderRow.parse("mine", {"operations": {"embed": {"path": "/vectors", "inputz": 3}}})
    with pytest.raises(ConfigurationError, match=r"provider 'mine': its operations are wrong: .*inputz"):
        operation_of(wrong, "embed")
    unknown = ProviderRow.parse("mine", {"operations": {"embed": {"path": "/v", "form": "esperanto"}}})
    with pytest.raises(ConfigurationError, match="form 'esperanto' of embed is none of openai, gemini"):
        operation_of(unknown, "embed")


def test_every_shipped_row_has_a_source_by_which_it_is_told_from_a_users_own() -> None:
    assert {name for name, row in load_rows().items() if not row.get("source")} == set()


def test_a_full_endpoint_has_no_other_routes(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**UnifiedProvider.PROVIDER_CONFIGS}
    monkeypatch.setattr(UnifiedProvider, "PROVIDER_CONFIGS", table)
    table["whole"] = {"base_url": fault_server.url + "/v1/chat/completions", "paths": {"openai_chat": ""}}
    table["odd"] = {"base_url": fault_server.url + "/ask", "paths": {"openai_chat": ""}}
    fault_server.route("/v1/embeddings", [status(200, {"data": [{"embedding": [1.0]}]})])

    monkeypatch.setenv("WHOLE_API_KEY", "sk-whole-0123456789")
    monkeypatch.setenv("ODD_API_KEY", "sk-odd-0123456789")

    async def main() -> None:
        async with QueryLLM(LLMConfig.from_env()) as llm:
            assert (await llm.embed("whole/e", "a")).embeddings == [[1.0]]
            await llm.embed("odd/e", "a")

    with pytest.raises(ConfigurationError, match=r"odd has a full endpoint, .*/ask.* set a base URL"):
        asyncio.run(main())


# Sound ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\0\0\0\0WEBPVP8 ", None),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"fLaC\0", "audio/flac"),
        (b"OggS\0", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3", "audio/webm"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\xff\xfe\0\0", None),
        (b"plain", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_format(data: bytes, mime: str | None) -> None:
    assert sound_mime(data) == mime


def test_a_recording_is_bounded_without_reading_all_of_it() -> None:
    class Endless:
        asked = 0

        def read(self, size: int) -> bytes:
            self.asked = size
            return b"ID3" + bytes(size - 3)

    file = Endless()
    with pytest.raises(InvalidRequestError, match="is over 0 MiB"):
        read_sound(file, most=1000)
    assert file.asked == 1001
    assert MAX_AUDIO_BYTES == 100 * 2**20


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=20) | st.integers(), max_size=4), st.binary(max_size=60))
def test_a_form_is_read_back_as_it_was(fields: dict[str, Any], data: bytes) -> None:
    body = form(fields, ("file", "a.wav", "audio/wav", data), "=end=")
    parts = body.split(b"--=end=")
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    assert len(parts) == len(fields) + 3
    for (name, value), part in zip(fields.items(), parts[1:], strict=False):
        head, _, rest = part.partition(b"\r\n\r\n")
        assert head.count(b"\r\n") == 1, "no name may begin a header of its own"
        assert rest == f"{value}\r\n".encode()
        assert name.isalnum() is False or f'name="{name}"'.encode() in head
    assert parts[-2].endswith(b"audio/wav\r\n\r\n" + data + b"\r\n")


def test_fireworks_has_two_hosts_of_its_own_for_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master.operating import placed
    from llm_master.target import Target
    from llm_master.transport import Transport

    monkeypatch.delenv("FIREWORKS_BASE_URL", raising=False)
    operation = operation_of(row_of("fireworks"), "transcribe")
    assert operation is not None

    def host(model: str) -> str:
        config = LLMConfig(fireworks_api_key="fw-0123456789")
        target = Target(row_of("fireworks"), config, Transport(), model=model, asked=model)
        return str(placed(target, operation, asyncio.run(target.endpoint())).url)

    assert host("whisper-v3") == "https://audio-prod.api.fireworks.ai/v1/audio/transcriptions"
    assert host("whisper-v3-turbo") == "https://audio-turbo.api.fireworks.ai/v1/audio/transcriptions"
