"""
STATEK's metering: prices of one's own from code and files, and what a job has used.
"""

from __future__ import annotations

import logging
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import ok
from support.threads import at_once

from llm_master import ConfigurationError, LLMConfig, LLMResponse, ModelConfig, QueryLLM, Usage, metering
from llm_master.classes import Attempt
from llm_master.metering import (
    LLM_Usage,
    ModelPricing,
    get_model_pricing,
    init_model_pricing,
    known_price,
    load_price_files,
    set_model_pricing,
)
from llm_master.policy.cache_entry import as_cached
from llm_master.price_files import COLUMNS, price_of
from llm_master.settings import Settings, check

ROOT = Path(__file__).resolve().parent.parent
HEADER = ",".join(COLUMNS)


@pytest.fixture(autouse=True)
def _no_prices():
    metering._table.cache_clear()
    yield
    metering._table.cache_clear()


def write(folder: Path, name: str, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def prices(record: ModelPricing | None) -> tuple[object, ...] | None:
    if record is None:
        return None
    found = (record.input_price_per_M, record.input_price_per_cached_M, record.output_price_per_M)
    return tuple(None if each is None else str(each) for each in found)


# Records --------------------------------------------------------------------------------------------------------------


def test_a_record_is_made_empty_and_stays_the_same():
    assert get_model_pricing("p", "m", no_create=True) is None
    record = get_model_pricing("p", "m")
    assert record is get_model_pricing("p", "m", no_create=True)
    assert not record.is_valid
    assert record.cost(1, 1) is None


def test_an_empty_record_is_filled_in_place():
    usage = LLM_Usage.for_model("p", "m")
    usage.total_input_tokens = 1_000_000
    assert usage.total_cost is None
    record = set_model_pricing("p", "m", 3, 15)
    assert record is usage.pricing
    assert usage.total_cost == 3.0


def test_equal_prices_change_nothing_and_others_make_a_new_record():
    old = set_model_pricing("p", "m", "1.50", 2, 0.3)
    before = metering.version()
    assert set_model_pricing("P", " m ", Decimal("1.5"), 2.0, "0.30") is old
    assert metering.version() == before
    usage = LLM_Usage(old)
    new = set_model_pricing("p", "m", 9, 9)
    assert new is not old
    assert get_model_pricing("p", "m") is new
    assert metering.version() > before
    assert prices(usage.pricing) == ("1.50", "0.3", "2")


def test_names_are_compared_without_spaces_and_case():
    record = set_model_pricing("Open AI", "gpt-4 turbo", 10, 30)
    assert get_model_pricing("OPENAI", "GPT-4TURBO", no_create=True) is record
    assert get_model_pricing("OPENAI", "GPT-4-TURBO", no_create=True) is None


def test_a_family_is_part_of_the_name():
    with_family = set_model_pricing("openrouter", "gpt-5.4-mini", 1, 2, model_family="openai")
    assert get_model_pricing("openrouter", "gpt-5.4-mini", no_create=True) is None
    assert get_model_pricing("openrouter", "openai", no_create=True) is None
    without = set_model_pricing("openrouter", "gpt-5.4-mini", 3, 4)
    assert get_model_pricing("openrouter", "gpt-5.4-mini", "OpenAI") is with_family
    assert get_model_pricing("openrouter", "gpt-5.4-mini") is without


def test_zero_is_a_price():
    record = ModelPricing(0, None, 0)
    assert record.is_valid
    assert record.cost(5, 5) == 0
    assert not ModelPricing(1).is_valid
    assert not ModelPricing(output_price_per_M=1).is_valid


@pytest.mark.parametrize(
    "bad", ["NaN", "Infinity", "-Infinity", "-1", -0.5, float("nan"), float("inf"), "", "free", "1_000", "1,5", "$3"]
)
def test_what_is_no_price_is_refused(bad):
    with pytest.raises(ConfigurationError, match=r"^input_price_per_M .* is not accepted: give USD per million"):
        set_model_pricing("p", "m", bad, 1)
    with pytest.raises(ConfigurationError, match="output_price_per_M"):
        ModelPricing(1, None, bad)
    assert get_model_pricing("p", "m", no_create=True) is None


@pytest.mark.parametrize("bad", [True, "1e12", "0.0000000000000000001", "٣", object()])
def test_what_only_looks_like_a_price_is_refused(bad):
    with pytest.raises(ConfigurationError):
        price_of(bad, "price")


@pytest.mark.parametrize(("provider", "model"), [("", "m"), ("p", " "), (None, "m"), ("p", 5), ("p", "a\0b")])
def test_what_is_no_name_is_refused(provider, model):
    with pytest.raises(ConfigurationError, match="give a name"):
        get_model_pricing(provider, model)


COUNT = st.integers(0, 10**13)
PRICE = st.decimals(0, 10**8, allow_nan=False, allow_infinity=False, places=9)


@given(st.tuples(COUNT, COUNT, COUNT), st.tuples(PRICE, PRICE, PRICE))
def test_a_cost_is_exact(counts, prices):
    inputs, outputs, cached = counts
    plain, cheap, output = map(Fraction, prices)
    read = min(cached, inputs)
    wanted = ((inputs - read) * plain + read * cheap + outputs * output) / 1_000_000
    assert Fraction(ModelPricing(*prices).cost(inputs, outputs, cached)) == wanted


def test_threads_get_one_record():
    found = at_once(lambda: get_model_pricing("p", "m"))
    assert len({id(each) for each in found}) == 1
    assert len(found) == 8


# Files ----------------------------------------------------------------------------------------------------------------


def test_the_documents_rows_load(tmp_path):
    rows = ("openrouter,openai,gpt-5.4-mini,0.75,0.075,4.50", "anthropic,,claude-3-opus,15.00,,75.00")
    write(tmp_path, "prices.csv", HEADER, *rows)
    report = init_model_pricing(tmp_path)
    assert (report.ok, report.loaded, report.files) == (True, 2, (str(tmp_path / "prices.csv"),))
    assert prices(get_model_pricing("openrouter", "gpt-5.4-mini", "openai")) == ("0.75", "0.075", "4.50")
    record = get_model_pricing("anthropic", "claude-3-opus")
    assert prices(record) == ("15.00", None, "75.00")
    assert record.source == f"{tmp_path / 'prices.csv'}:3"


def test_text_files_below_the_directory_load_and_others_do_not(tmp_path):
    write(tmp_path, "a/b/prices.txt", HEADER, "p,,m,1,,2")
    for name in ("prices.CSV", "prices.json", "notes"):
        write(tmp_path, name, HEADER, "other,,m,1,,2")
    assert init_model_pricing(tmp_path).loaded == 1
    assert get_model_pricing("other", "m", no_create=True) is None


def test_columns_stand_in_any_order_and_others_are_ignored(tmp_path):
    write(
        tmp_path, "p.csv", "note, Model ,OUTPUT_PRICE_PER_M,PROVIDER,input_price_per_m", '"a, b",m,2,p,1', "x,n,4,p,3"
    )
    assert init_model_pricing(tmp_path).ok
    assert prices(get_model_pricing("p", "m")) == ("1", None, "2")
    assert prices(get_model_pricing("p", "n")) == ("3", None, "4")


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    write(tmp_path, "p.csv", HEADER + "\r", "p,,m,1,,2\r", encoding="utf-8-sig")
    assert init_model_pricing(tmp_path).ok
    assert prices(get_model_pricing("p", "m")) == ("1", None, "2")


def test_short_lines_are_fine_where_nothing_needed_is_missing(tmp_path):
    header = "PROVIDER,MODEL,INPUT_PRICE_PER_M,OUTPUT_PRICE_PER_M,INPUT_PRICE_PER_CACHED_M,MODEL_FAMILY"
    write(tmp_path, "p.csv", header, "p,m,1,2", "p,n,1", "p", "", " , ,", "q,m,3,4,0.5")
    report = init_model_pricing(tmp_path)
    assert report.loaded == 2
    assert [str(each).removeprefix(f"{tmp_path}/") for each in report.problems] == [
        "p.csv:3: OUTPUT_PRICE_PER_M is empty; the line is left out",
        "p.csv:4: INPUT_PRICE_PER_M is empty; the line is left out",
    ]
    assert prices(get_model_pricing("q", "m")) == ("3", "0.5", "4")


BAD = [
    ("p,,m,NaN,,2", "INPUT_PRICE_PER_M 'NaN' is not accepted"),
    ("p,,m,1,,Infinity", "OUTPUT_PRICE_PER_M 'Infinity' is not accepted"),
    ("p,,m,1,-0.1,2", "INPUT_PRICE_PER_CACHED_M '-0.1' is not accepted"),
    ("p,,m,one,,2", "INPUT_PRICE_PER_M 'one' is not accepted"),
    ("p,,m,,,2", "INPUT_PRICE_PER_M is empty"),
    (",,m,1,,2", "PROVIDER is empty"),
    ("p,,,1,,2", "MODEL is empty"),
    ("p,,m,1,000,,2", "there are more cells than columns"),
]


@pytest.mark.parametrize(("line", "what"), BAD)
def test_a_bad_line_is_reported_and_the_others_load(tmp_path, caplog, line, what):
    path = write(tmp_path, "p.csv", HEADER, "p,,before,1,,2", line, "p,,after,1,,2")
    with caplog.at_level(logging.WARNING, logger="llm_master"):
        report = init_model_pricing(tmp_path)
    (problem,) = report.problems
    assert (problem.file, problem.line, report.loaded, report.ok) == (str(path), 3, 2, False)
    assert str(problem).startswith(f"{path}:3: {what}")
    assert caplog.messages == [str(problem)]
    assert get_model_pricing("p", "before").is_valid
    assert get_model_pricing("p", "after").is_valid
    assert get_model_pricing("p", "m", no_create=True) is None


@pytest.mark.parametrize(("line", "what"), BAD[:2])
def test_a_strict_load_is_all_or_nothing(tmp_path, line, what):
    path = write(tmp_path, "p.csv", HEADER, "p,,before,1,,2", line, "bad")
    with pytest.raises(ConfigurationError) as caught:
        init_model_pricing(tmp_path, strict=True)
    assert str(caught.value).startswith(f"{path}:3: {what}")
    assert str(caught.value).endswith("(and 1 more)")
    assert get_model_pricing("p", "before", no_create=True) is None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PROVIDER\tMODEL\nopenai\tgpt-4o\n", "the header lacks PROVIDER, MODEL, INPUT_PRICE_PER_M"),
        (b"openai,,gpt-4o,1,,2\n", "the header lacks"),
        (b"", "the file has no header"),
        (b"PROVIDER,MODEL,MODEL,INPUT_PRICE_PER_M,OUTPUT_PRICE_PER_M\n", "the header names MODEL twice"),
        (HEADER.encode("utf-16"), "this is not UTF-8 text"),
        (HEADER.encode() + b"\np,,\xff,1,,2\n", "this is not UTF-8 text"),
        (HEADER.encode() + b'\np,,"' + b"x" * 200_000, "this is not CSV"),
    ],
)
def test_a_file_that_is_no_price_file_is_reported(tmp_path, data, what):
    (tmp_path / "p.csv").write_bytes(data)
    report = init_model_pricing(tmp_path)
    (problem,) = report.problems
    assert what in str(problem)
    assert report.loaded == 0
    assert "\n" not in str(problem)


def test_a_missing_directory_is_reported(tmp_path):
    report = init_model_pricing(tmp_path / "none")
    assert [str(each) for each in report.problems] == [
        f"{tmp_path / 'none'}: there is no such file or directory; correct the path"
    ]
    with pytest.raises(ConfigurationError, match="no such file"):
        init_model_pricing(tmp_path / "none", strict=True)
    assert init_model_pricing(tmp_path).ok


def test_a_later_file_replaces_an_earlier_price(tmp_path):
    for name, price in (("b.csv", 2), ("a.csv", 1), ("c/a.csv", 3), ("B.csv", 9)):
        write(tmp_path, name, HEADER, f"p,,m,{price},,1")
    report = init_model_pricing(tmp_path)
    assert [Path(each).relative_to(tmp_path).as_posix() for each in report.files] == [
        "B.csv",
        "a.csv",
        "b.csv",
        "c/a.csv",
    ]
    assert prices(get_model_pricing("p", "m")) == ("3", None, "1")


def test_two_prices_of_a_model_in_one_file_are_a_mistake(tmp_path):
    write(tmp_path, "p.csv", HEADER, "p,,m,1,,2", "P,, M,1.0,,2", "p,,m,3,,2")
    report = init_model_pricing(tmp_path)
    assert [each.line for each in report.problems] == [4]
    assert "another price in line 2 already" in report.problems[0].text
    assert prices(get_model_pricing("p", "m")) == ("1", None, "2")


def test_a_file_alone_may_have_any_ending(tmp_path):
    path = write(tmp_path, "prices.2026", HEADER, "p,,m,1,,2")
    assert load_price_files([path, tmp_path]).loaded == 1


def test_the_sample_loads():
    report = init_model_pricing(ROOT / "config" / "prices.csv", strict=True)
    assert report.loaded == 3


@given(st.binary(max_size=300))
def test_no_bytes_break_a_load(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("prices")
    (folder / "p.csv").write_bytes(HEADER.encode() + b"\n" + data)
    report = init_model_pricing(folder)
    assert report.loaded >= 0
    assert all(each.line <= data.count(b"\n") + data.count(b"\r") + 3 and each.text for each in report.problems)


# The prices of calls --------------------------------------------------------------------------------------------------


def test_a_price_is_found_for_a_call():
    exact = set_model_pricing("openai", "gpt-4o", 1, 2)
    aliased = set_model_pricing("Claude", "claude-3-opus", 1, 2)
    family = set_model_pricing("openrouter", "gpt-5.4-mini", 1, 2, model_family="openai")
    mine = set_model_pricing("My Own", "m", 1, 2)
    get_model_pricing("openai", "empty")
    assert known_price("openai", "nothing", "GPT-4o") is exact
    assert known_price("anthropic", "claude-3-opus") is aliased
    assert known_price("openrouter", "openai/gpt-5.4-mini") is family
    assert known_price("myown", "m") is mine
    assert known_price("openrouter", "gpt-5.4-mini") is None
    assert known_price("openai", "gpt-4o-mini") is None
    assert known_price("openai", "empty") is None


def test_without_any_price_nothing_is_looked_up():
    metering._aliases.cache_clear()
    assert known_price("openai", "gpt-4o") is None
    assert metering._aliases.cache_info().currsize == 0


# Jobs -----------------------------------------------------------------------------------------------------------------


def used(pricing=None, **fields):
    usage = LLM_Usage(pricing)
    for name, value in fields.items():
        setattr(usage, f"total_{name}", value)
    return usage


def test_the_documents_totals():
    first = used(ModelPricing(10, None, 30), input_tokens=500_000, output_tokens=100_000)
    assert first.total_cost == 8.0
    second = used(ModelPricing(10, 2, 0), input_tokens=1_000_000, cached_tokens=500_000)
    assert second.total_cost == 6.0
    assert used(ModelPricing(10, 2, 30), reported_cost=0.99).total_cost == 0.99
    assert used().total_cost is None


def test_a_computed_cost_beats_a_reported_one():
    usage = used(ModelPricing(1, None, 2), input_tokens=1_000_000, reported_cost=0.5)
    assert usage.total_cost == 1.0
    assert used(ModelPricing(1), input_tokens=1_000_000, reported_cost=0.5).total_cost == 0.5


def test_negative_counts_never_make_a_cost_negative():
    record = ModelPricing("2", "0.5", "8")
    for counts, cost in {
        (-10, 5, 0): "0.00004",
        (5, -10, 0): "0.00001",
        (5, 5, -10): "0.00005",
        (-1, -1, -1): "0",
    }.items():
        assert record.cost(*counts) == Decimal(cost)


def test_more_cached_tokens_than_input_never_make_a_cost_negative():
    assert used(ModelPricing(10, 1, 0), input_tokens=1_000_000, cached_tokens=9_000_000).total_cost == 1.0


def test_each_period_keeps_its_own_price():
    usage = used(None, input_tokens=100, reported_cost=Decimal("0.7"))
    usage.pricing = ModelPricing(10, 1, 20)
    usage.total_input_tokens += 1_000_000
    usage.total_reported_cost += Decimal("0.2")
    usage.pricing = ModelPricing(1, None, 1)
    usage.total_output_tokens += 500_000
    assert usage.exact_cost == Decimal("0.7") + 10 + Decimal("0.5")
    usage.pricing = None
    usage.total_input_tokens += 5
    assert usage.exact_cost == Decimal("11.2")
    usage.total_reported_cost += Decimal("0.1")
    assert usage.exact_cost == Decimal("11.3")
    assert usage.total_cost == 11.3


def test_a_response_is_added_with_all_its_attempts():
    usage = LLM_Usage.for_model("p", "m")
    attempts = (
        Attempt("p", "m", outcome="error", bytes_sent=10, bytes_received=1),
        Attempt("p", "m", bytes_sent=10, bytes_received=200),
    )
    usage.add(LLMResponse("a", "m", Usage(100, 20, cached_tokens=40), attempts=attempts))
    assert usage.total_reported_cost is None
    usage.add(LLMResponse("a", "m", Usage(1, 2), attempts=attempts[1:], reported_cost=Decimal("0.25")))
    usage.add(LLMResponse("a", "m", Usage(1, 2), reported_cost=Decimal("0.5")))
    assert (usage.total_bytes_sent, usage.total_bytes_received, usage.context_bytes) == (30, 401, 431)
    assert (usage.total_input_tokens, usage.total_cached_tokens, usage.total_output_tokens) == (102, 40, 24)
    assert usage.total_reported_cost == Decimal("0.75")
    assert usage.total_cost == 0.75
    set_model_pricing("p", "m", 1, 1, 0)
    assert usage.exact_cost == Decimal("0.000086")
    assert repr(usage).startswith("LLM_Usage(context_bytes=431,")


def test_each_attempt_reports_a_cost_of_its_own_and_a_kept_answer_none():
    usage = LLM_Usage(ModelPricing(1, None, 1))
    attempts = tuple(Attempt("p", "m", usage=Usage(5, 5), reported_cost=Decimal(cost)) for cost in ("0.01", "0.02"))
    response = LLMResponse("a", "m", Usage(10, 10), attempts=attempts, reported_cost=Decimal("0.02"))
    usage.add(response)
    assert usage.total_reported_cost == response.cost == Decimal("0.03")
    usage.add(as_cached(response))
    assert (usage.total_input_tokens, usage.exact_cost) == (10, Decimal("0.00002"))
    assert usage.total_reported_cost == Decimal("0.03")


def test_what_providers_reported_is_added_without_rounding():
    with localcontext(prec=4):
        usage = LLM_Usage()
        for cost in ("1.23456", "0.000001"):
            usage.add(LLMResponse("a", reported_cost=Decimal(cost)))
        usage.pricing = ModelPricing(1, None, 1)
        usage.add(LLMResponse("a", reported_cost=Decimal("0.0000001")))
        assert usage.exact_cost == Decimal("1.2345611")
        usage.total_reported_cost = 0.5  # a plain field, as in STATEK
        usage.add(LLMResponse("a", reported_cost=Decimal("0.1")))
        assert usage.total_reported_cost == Decimal("0.6")


# The settings file and the environment --------------------------------------------------------------------------------


def settings(folder: Path, *files: Path) -> Path:
    listed = ", ".join(f"'{each}'" for each in files)
    return write(folder, "llm_master.toml", "[prices]", f"files = [{listed}]")


def test_a_settings_file_names_price_files(tmp_path):
    good = write(tmp_path, "prices.csv", HEADER, "p,,m,1,,2")
    path = settings(tmp_path, good)
    assert check(path) == []
    assert Settings.read(path).prices == (str(good),)
    QueryLLM.from_file(path)
    assert get_model_pricing("p", "m").is_valid


def test_a_mistake_in_a_price_file_is_one_of_the_settings_file(tmp_path):
    bad = write(tmp_path, "prices.csv", HEADER, "p,,m,1,,2", "p,,n,x,,2")
    path = settings(tmp_path, bad, tmp_path / "none.csv")
    assert [(each.line, each.text.startswith(str(tmp_path))) for each in check(path)] == [(2, True), (2, True)]
    with pytest.raises(ConfigurationError, match=r"llm_master\.toml:2: .*prices\.csv:3: INPUT_PRICE_PER_M 'x'"):
        QueryLLM.from_file(path)
    assert get_model_pricing("p", "m", no_create=True) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[prices]\nfiles = 'a.csv'", "2: files = 'a.csv' is not accepted: give a list of texts in quotes"),
        ("[prices]\nfiles = []", "2: files of type list is not accepted"),
        ("[prices]\nfiles = [1]", "2: files of type list is not accepted"),
        ("[prices]\nfile = ['a.csv']", "2: unknown setting 'file' in [prices]; did you mean 'files'?"),
        ("[prices]", "1: [prices] sets nothing"),
        ("files = ['a.csv']", "1: unknown setting 'files' at the top of the file; it belongs into [prices]"),
    ],
)
def test_what_the_section_cannot_hold(tmp_path, text, what):
    (problem, *_) = check(write(tmp_path, "llm_master.toml", text))
    assert f"{problem.line}: {problem.text}".replace("files = of", "files of").startswith(what)


def test_the_directory_of_the_environment_is_read_once(tmp_path, monkeypatch, caplog, fault_server):
    write(tmp_path, "p.csv", HEADER, "p,,m,1,,2", "bad")
    monkeypatch.setenv("STATEK_MODEL_INFO_DIR", str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="llm_master"):
        for _ in range(2):
            with QueryLLM(LLMConfig(openai_api_key="sk-x", base_urls={"openai": fault_server.url})) as llm:
                llm.query_sync("gpt-4o-mini", "Hi")
    assert get_model_pricing("p", "m").is_valid
    assert len([each for each in caplog.messages if "p.csv:3" in each]) == 1


# The cost of calls ----------------------------------------------------------------------------------------------------


def asked(server, **options):
    config = LLMConfig(openai_api_key="sk-x", base_urls={"openai": server.url})
    with QueryLLM(config, **options) as llm:
        return llm.query_sync("gpt-4o-mini", "Hi")


def test_calls_cost_what_the_file_says(tmp_path, fault_server):
    fault_server.default = ok(usage=Usage(100, 20, cached_tokens=40))
    shipped = asked(fault_server).cost
    write(tmp_path, "p.csv", HEADER, "OpenAI,,GPT-4o-mini,1000,10,2000")
    init_model_pricing(tmp_path)
    assert asked(fault_server).cost == Decimal("0.1004")
    assert shipped not in (None, Decimal("0.1004"))
    set_model_pricing("openai", "gpt-4o-mini", 0, 0)
    assert asked(fault_server).cost == 0


def test_an_entry_of_the_registry_beats_a_file_and_a_reported_cost_beats_all(fault_server):
    set_model_pricing("openai", "gpt-4o-mini", 1000, 2000)
    registry = {"gpt-4o-mini": ModelConfig(input_price_per_million=1, output_price_per_million=0)}
    fault_server.default = ok(usage=Usage(1_000_000, 0))
    assert asked(fault_server, registry=registry).cost == 1
    response = asked(fault_server)
    assert response.cost == 1000
    response.reported_cost = Decimal("0.5")
    assert response.cost == Decimal("0.5")
    usage = LLM_Usage.for_model("openai", "gpt-4o-mini")
    usage.add(response)
    assert (usage.total_reported_cost, usage.total_cost) == (Decimal("0.5"), 1000.0)
