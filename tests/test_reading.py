"""
What a ledger adds up to: every figure against Python's own arithmetic on the rows and against plain SQL.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_rows import CHUNK, DAY, START, call, fill, opened, seal

from llm_master.errors import ConfigurationError, InvalidRequestError, LedgerError
from llm_master.ledger.chunks import summary_of
from llm_master.ledger.reading import BY, Reader
from llm_master.ledger.reading_ranks import ranks_of
from llm_master.ledger.rows import AttemptRow, rows_of, tags_of
from llm_master.ledger.store import Ledger
from llm_master.ledger.summary import KINDS, SUMS, Summary, packed, width_of

LARGEST = 2**63 - 1
COUNTS = {
    "requests": "attempts",
    "cached": "cached",
    "fallbacks": "fallback",
    "estimated": "usage_estimated",
    "bytes_sent": "bytes_sent",
    "bytes_received": "bytes_received",
}
figures = st.one_of(st.integers(0, 5000), st.integers(0, LARGEST))
names = st.sampled_from(["a", "b", None])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.integers(START, START + 3 * DAY),
            "kind": st.sampled_from(["chat", "embed"]),
            "model": names,
            "provider": names,
            "deployment": names,
            "key_id": names,
            "tags": st.lists(st.sampled_from(["x", "y", 'q"\n']), max_size=3),
            "outcome": st.sampled_from(["ok", "error", "cancelled", "interrupted"]),
            "cost": st.none() | figures,
            "cost_complete": st.integers(0, 1),
            "latency_us": figures,
            "ttft_us": st.none() | figures,
            **dict.fromkeys(("attempts", "fallback", "cached", "usage_estimated"), st.integers(0, 3)),
            **dict.fromkeys(("bytes_sent", "bytes_received", *KINDS), figures),
        }
    ),
    max_size=12,
)


def ranks(values):
    """Nearest rank, written out."""
    ordered = sorted(values)
    places = [math.ceil(Fraction(percent, 100) * len(ordered)) for percent in (50, 95, 99)]
    return tuple(ordered[place - 1] for place in places) if ordered else None


def shown(found):
    return None if found is None else (found.p50, found.p95, found.p99)


def labels(row, name):
    if name == "tag":
        return tags_of(row.tags) or [None]
    if name == "day":
        return [datetime.fromtimestamp(row.ts // 1_000_000, UTC).date().isoformat()]
    column = {"asked": "model_asked", "key": "key_id"}.get(name, name)
    value = getattr(row, column)
    return [row.model_asked if name == "model" and value is None else value]


def check(found, expected):
    """A row of a report against the calls that belong to it."""
    assert found.calls == len(expected)
    assert found.errors == sum(row.outcome in ("error", "interrupted") for row in expected)
    assert found.cancelled == sum(row.outcome == "cancelled" for row in expected)
    for name, column in COUNTS.items():
        assert getattr(found, name) == sum(getattr(row, column) for row in expected), name
    for name in KINDS:
        assert getattr(found.usage, name) == sum(getattr(row, name) for row in expected), name
    known = [row.cost for row in expected if row.cost is not None]
    assert found.unpriced == len(expected) - len(known)
    assert found.incomplete == sum(row.cost is not None and not row.cost_complete for row in expected)
    assert (found.cost is None) == (not known)
    assert not known or Fraction(found.cost) == Fraction(sum(known), 10**12)
    assert shown(found.latency) == ranks([row.latency_us for row in expected])
    assert shown(found.first_token) == ranks([row.ttft_us for row in expected if row.ttft_us is not None])


def check_groups(report, calls, by):
    groups = {}
    for row in calls:
        for label in labels(row, by):
            groups.setdefault(label, []).append(row)
    assert {row.group[by] for row in report.rows} == groups.keys()
    for row in report.rows:
        check(row, groups[row.group[by]])
    check(report.total, calls)


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from(sorted(BY)))
def test_every_figure_of_random_ledgers(tmp_path_factory, fields, by):
    path = tmp_path_factory.mktemp("ledger") / "usage.sqlite3"
    calls = [call(number, **each) for number, each in enumerate(fields)]
    fill(path, calls)
    check_groups(Reader(path).report(by), calls, by)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two full chunks and a part of a third, over ten days; and their rows."""
    random_ = random.Random(5)
    path = tmp_path_factory.mktemp("ledger") / "usage.sqlite3"
    calls = [
        call(
            number,
            ts=START + number * 50_000_000 + random_.randrange(90_000_000),
            model=random_.choice(["m1", "m2", None]),
            tags=random_.sample(["x", "y", "z"], random_.randrange(3)),
            outcome=random_.choice(["ok", "ok", "error"]),
            cost=random_.choice([None, random_.randrange(10**10)]),
            latency_us=int(random_.lognormvariate(13, 1)),
            ttft_us=random_.choice([None, random_.randrange(10**6)]),
            input_tokens=random_.randrange(9000),
        )
        for number in range(2 * CHUNK + 700)
    ]
    fill(path, calls)
    assert seal(path) == 2
    return path, calls


@pytest.mark.parametrize("by", ["model", "day", "tag"])
def test_summaries_say_what_the_calls_say(many, by):
    path, calls = many
    report = Reader(path).report(by)
    assert report.summarised == 2 * CHUNK
    check_groups(report, calls, by)


def test_totals_equal_plain_sql(many):
    path, _ = many
    total = Reader(path).report().total
    with sqlite3.connect(path) as connection:
        plain = connection.execute(
            "SELECT count(*), sum(cost), count(*) - count(cost), sum(input_tokens) FROM calls"
        ).fetchone()
        latency = connection.execute(
            "SELECT latency_us FROM calls ORDER BY 1 LIMIT 1 OFFSET (SELECT (99 * count(*) + 99) / 100 - 1 FROM calls)"
        ).fetchone()[0]
    assert (total.calls, int(total.cost * 10**12), total.unpriced, total.usage.input_tokens) == plain
    assert total.latency.p99 == latency


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_days_of_another_zone(many, zone):
    path, calls = many
    found = {row.group["day"]: row.calls for row in Reader(path, timezone=zone).usage("day")}
    expected = {}
    for row in calls:
        day = datetime.fromtimestamp(row.ts / 1e6, ZoneInfo(zone)).date().isoformat()
        expected[day] = expected.get(day, 0) + 1
    assert found == expected


def test_a_time_within_a_chunk_is_exact(many):
    path, calls = many
    since, until = calls[5000].ts, calls[CHUNK + 9].ts
    found = Reader(path).usage(since=since, until=until)[0]
    check(found, [row for row in calls if since <= row.ts < until])


@pytest.mark.parametrize("change", ["UPDATE calls SET cost = 7 WHERE seq = 10", "DELETE FROM calls WHERE seq = 10"])
def test_a_change_of_a_row_drops_its_summary(tmp_path, many, change):
    path = tmp_path / "copy.sqlite3"
    path.write_bytes(many[0].read_bytes())
    connection = opened(path)
    connection.execute(change)
    report = Reader(path).report()
    assert report.summarised == CHUNK
    [(count, cost)] = connection.execute("SELECT count(*), sum(cost) FROM calls")
    assert (report.total.calls, int(report.total.cost * 10**12)) == (count, cost)
    connection.close()
    assert seal(path) == 2
    again = Reader(path).report()
    assert again.summarised == report.summarised + CHUNK - change.startswith("DELETE")
    assert again.total == report.total


def asked(path, by, **chosen):
    """The statements with which a report reads calls."""
    from llm_master.ledger.reading_source import _OpenFile
    from llm_master.ledger.reading_usage import report

    reader, statements = Reader(path), []
    with sqlite3.connect(path) as connection:
        connection.set_trace_callback(statements.append)
        report(_OpenFile(connection), by, reader.selection(**chosen), reader.zone)
    return [each for each in statements if "FROM calls WHERE" in each]


@pytest.mark.parametrize("by", [[], ["model"], ["tag"], ["day"], ["model", "day"], ["tag", "key"]])
@pytest.mark.parametrize("chosen", [{}, {"since": START + CHUNK * 30_000_000}, {"model": "m1"}])
def test_what_is_kept_is_read_instead_of_the_calls(many, by, chosen):
    [statement] = asked(many[0], by, **chosen)
    assert f"BETWEEN {2 * CHUNK + 1} AND {3 * CHUNK}" in statement


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE usage_sums SET data = x'0299'",
        "UPDATE usage_sums SET data = CAST(x'99' || substr(data, 2) AS BLOB)",
        "UPDATE usage_sums SET data = substr(data, 1, length(data) - 1)",
        "UPDATE usage_chunks SET calls = calls + 1",
        "DELETE FROM usage_sums",
        "DELETE FROM usage_chunks",
        "DROP TABLE usage_sums",
    ],
)
def test_what_is_kept_and_cannot_be_read_is_left_alone(tmp_path, many, damage):
    path = tmp_path / "copy.sqlite3"
    path.write_bytes(many[0].read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    report = Reader(path).report("tag")
    assert report.summarised == 0
    check_groups(report, many[1], "tag")


@pytest.mark.parametrize("damage", ["x'02'", "x''", "NULL"])
def test_columns_stand_in_for_sums(tmp_path, many, damage):
    path = tmp_path / "copy.sqlite3"
    path.write_bytes(many[0].read_bytes())
    with sqlite3.connect(path) as connection:
        kept = "DELETE FROM usage_sums" if damage == "NULL" else f"UPDATE usage_sums SET data = {damage}"
        connection.execute(f"{kept} WHERE name != 'columns'")
    report = Reader(path).report("tag")
    assert report.summarised == 2 * CHUNK
    check_groups(report, many[1], "tag")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 6000), min_size=1, max_size=40),
    st.sampled_from([1, 7, 1000, 2**31, 2**40]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_percentiles_of_many_values_in_pieces(sizes, spread, drift, seed):
    random_ = random.Random(seed)
    pieces = [
        sorted(random_.randrange(spread) + (at * spread // 3 if drift else 0) for _ in range(size))
        for at, size in enumerate(sizes)
    ]
    widths = [width_of(0, max(each, default=0)) for each in pieces]
    widths = ["q" if width == "q" else "I" for width in widths]
    values = [value for each in pieces for value in each]
    found = ranks_of([(width, packed(each, width)) for width, each in zip(widths, pieces, strict=True)])
    assert found == (None if not values else (*ranks(values), len(values)))


@pytest.mark.parametrize("length", [4910, 5030, 5070, 5190])
def test_percentiles_of_pieces_that_mislead_a_sample(length):
    # Small numbers end just after the sample of each piece took one: it sees too many of them.
    step = 40 * length // 4096
    pieces = []
    for at in range(40):
        small = (length // 2 // step) * step + at * 7 % step + 1
        pieces.append(list(range(small)) + list(range(10**6, 10**6 + length - small)))
    values = [value for each in pieces for value in each]
    assert ranks_of([("I", packed(each, "I")) for each in pieces]) == (*ranks(values), len(values))


@pytest.mark.parametrize(
    "change",
    [
        {"latencies": memoryview(b"\1\0\0\0")},
        {"answered": [2]},
        {"calls": [3], "latencies": memoryview(bytes(12))},
        {"labels": [None, None]},
        {"sums": [[1, 2]] * len(SUMS)},
        {"sums": [[1]]},
        {"width": "B"},
    ],
    ids="-".join,
)
def test_a_kept_summary_that_does_not_add_up_is_left_alone(change):
    numbers = memoryview(bytes(8))
    good = Summary([None], [2], [[1] for _ in SUMS], "I", numbers, [1], numbers[:4])
    assert summary_of(b"\2" + msgspec.msgpack.encode(good), 2) == good
    wrong = msgspec.structs.replace(good, **change)
    assert wrong != good
    expected = 4 if "calls" in change else 2
    assert summary_of(b"\2" + msgspec.msgpack.encode(wrong), expected) is None


def test_numbers_that_need_all_their_bits(tmp_path):
    path = tmp_path / "usage.sqlite3"
    slow = [call(n, latency_us=2**40 + n, ttft_us=-n if n % 3 else None, bytes_sent=2**33) for n in range(CHUNK)]
    dear = [call(CHUNK + n, cost=LARGEST - n, input_tokens=LARGEST) for n in range(CHUNK)]
    fill(path, slow + dear)
    assert seal(path) == 1  # no 64 bits hold the sums of the second
    report = Reader(path).report("day")
    assert report.summarised == CHUNK
    check_groups(report, slow + dear, "day")


def test_days_that_begin_within_a_quarter_of_an_hour(tmp_path):
    path = tmp_path / "usage.sqlite3"
    # Until 1937 the Dutch were 19 minutes and 32 seconds ahead.
    start = int(datetime(1930, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    calls = [call(n, ts=start + n * 37_000_000) for n in range(CHUNK + 5)]
    fill(path, calls)
    assert seal(path) == 1
    report = Reader(path, timezone="Europe/Amsterdam").report("day")
    assert report.summarised == CHUNK
    zone = ZoneInfo("Europe/Amsterdam")
    expected = Counter(
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=each.ts)).astimezone(zone).date().isoformat()
        for each in calls
    )
    assert {row.group["day"]: row.calls for row in report.rows} == expected


def test_an_empty_ledger(tmp_path):
    path = tmp_path / "usage.sqlite3"
    opened(path).close()
    reader = Reader(path)
    assert reader.usage("model") == []
    [total] = reader.usage()
    assert (total.calls, total.cost, total.latency, total.error_rate) == (0, None, None, 0.0)
    assert reader.calls() == []


def test_patterns_choose_calls(tmp_path):
    path = tmp_path / "usage.sqlite3"
    asked = ["gpt-4o", "GPT-4o-mini", "claude", "g_t-4o", "a[b]|c"]
    fill(path, [call(n, model_asked=name, model=None, tags=["t%", "u"][: n % 3]) for n, name in enumerate(asked)])
    reader = Reader(path)
    models = {"gpt-4o*": 2, "claude": 1, "g_t*": 1, "?laude": 1, "o": 0, "A[b]|?": 1, "a[ab]*": 0}
    for pattern, expected in models.items():
        assert reader.usage(model=pattern)[0].calls == expected
        assert len(reader.calls(9, reader.selection(model=pattern))) == expected
    for pattern, expected in [("t%", 3), ("u", 1), ("*", 3), (("t%", "u"), 3)]:
        assert reader.usage(tag=pattern)[0].calls == expected
        assert len(reader.calls(9, reader.selection(tag=pattern))) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-01", START),
        ("2026-11-01T01:30", START + 5_400_000_000),
        ("2026-11-01T01:30+01:00", START + 1_800_000_000),
        (date(2026, 11, 2), START + DAY),
        (datetime(2026, 11, 1, 0, 0, 0, 7, UTC), START + 7),
        (START, START),
    ],
)
def test_times(tmp_path, given, expected):
    assert Reader(tmp_path).selection(since=given).since == expected


def test_spans_end_now(tmp_path):
    reader = Reader(tmp_path)
    for text, span in [("7d", timedelta(days=7)), ("12h", timedelta(hours=12)), ("2w", timedelta(days=14))]:
        a, b = reader.selection(since=text).since, reader.selection(since=span).since
        assert 0 <= b - a < 60_000_000


def test_what_cannot_be_asked(tmp_path):
    reader = Reader(tmp_path / "x")
    for wrong in ("yesterday", "7y", "2026-13-01", "20261101", ""):
        with pytest.raises(InvalidRequestError, match="is no time; write 7d"):
            reader.selection(since=wrong)
    with pytest.raises(InvalidRequestError, match="is no time zone"):
        Reader(tmp_path, timezone="Mars/Olympus")
    with pytest.raises(InvalidRequestError, match="sorted by 'size'"):
        reader.report(sort="size")
    fill(tmp_path / "x", [call(1)])
    with pytest.raises(InvalidRequestError, match="grouped by 'size'"):
        reader.usage("size")


def test_files_that_are_no_ledger(tmp_path):
    with pytest.raises(LedgerError, match=r"no ledger at .*missing: nothing was recorded"):
        Reader(tmp_path / "missing").usage()
    with pytest.raises(LedgerError, match="is no file"):
        Reader(tmp_path).usage()
    (tmp_path / "text").write_text("words " * 1000)
    with pytest.raises(LedgerError, match="it is no SQLite database"):
        Reader(tmp_path / "text").usage()
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(LedgerError, match="database of another program"):
        Reader(tmp_path / "other").usage()


def test_the_ledger_is_off(monkeypatch):
    monkeypatch.setenv("LLM_MASTER_LEDGER", "off")
    with pytest.raises(ConfigurationError, match="LLM_MASTER_LEDGER switches the ledger off; name the file to read"):
        Reader()


@pytest.mark.parametrize(
    ("column", "value"), [("latency_us", "'soon'"), ("cost", "1.5"), ("input_tokens", "'many'"), ("tags", "'{'")]
)
def test_a_broken_row_is_named(tmp_path, column, value):
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(number) for number in range(3)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE calls SET {column} = {value} WHERE seq = 2")
    with pytest.raises(LedgerError, match=f"call {1:032x}: ") as caught:
        Reader(path).usage("tag")
    assert "\n" not in str(caught.value)


def test_reading_writes_nothing_and_sees_what_is_committed(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(1)])
    before = sorted(each.name for each in tmp_path.iterdir())
    assert Reader(path).usage()[0].calls == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == before == ["usage.sqlite3"]
    writer = opened(path)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM calls")
    assert Reader(path).usage()[0].calls == 1
    writer.execute("COMMIT")
    assert Reader(path).usage()[0].calls == 0
    writer.close()


def test_one_call_by_its_names(tmp_path):
    path = tmp_path / "usage.sqlite3"
    ids = ["0193a1b2" + "0" * 24, "0193a1c2" + "0" * 24]
    attempt = msgspec.convert(
        {
            "call_id": ids[0],
            "number": 1,
            "ts": START,
            "provider": "openai",
            "model": "m",
            "outcome": "error",
            "request_id": "req_try",
        },
        AttemptRow,
    )
    fill(path, [call(1, id=ids[0], request_id="req_one"), call(2, id=ids[1], request_id="req_two")], [attempt])
    reader = Reader(path)
    for name in (ids[0], "0193a1b", "0193A1B2-0000", "req_one", "req_try"):
        assert reader.call(name).call.id == ids[0]
    assert reader.call(ids[0]).attempts == [attempt]
    with pytest.raises(InvalidRequestError, match=rf"several calls .*{ids[1]}, {ids[0]}"):
        reader.call("0193a1")
    with pytest.raises(InvalidRequestError, match="too short"):
        reader.call("0193a")
    with pytest.raises(InvalidRequestError, match=f"the nearest are {ids[1]}"):
        reader.call("0193a1c3")
    with pytest.raises(InvalidRequestError, match="the nearest are req_two"):
        reader.call("req_twx")


def test_following(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(number) for number in range(4)])
    following = Reader(path).follow(2, pause=0.001)
    assert [row.id for row in next(following)] == [f"{number:032x}" for number in (2, 3)]
    fill(path, [call(9), call(10)])
    assert [row.id for row in next(following)] == [f"{number:032x}" for number in (9, 10)]


def test_following_a_file_that_takes_the_place_of_another(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(number) for number in range(5)])
    batches = Reader(path).follow(1, pause=0)
    assert [row.id for row in next(batches)] == [f"{4:032x}"]
    fill(tmp_path / "new.sqlite3", [call(7), call(8)])
    (tmp_path / "new.sqlite3").replace(path)
    assert [row.id for row in next(batches)] == [f"{7:032x}", f"{8:032x}"]
    fill(path, [call(9)])
    assert [row.id for row in next(batches)] == [f"{9:032x}"]


def test_orders(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(
        path,
        [
            call(1, model="dear", cost=9, latency_us=1),
            call(2, model="slow", cost=1, latency_us=99),
            call(3, model="busy", cost=None, input_tokens=50),
            call(4, model="busy", cost=None),
        ],
    )
    expected = {"cost": "dear", "calls": "busy", "tokens": "busy", "latency": "busy", None: "dear"}
    found = {sort: Reader(path).usage("model", sort=sort)[0].group["model"] for sort in expected}
    assert found == expected
    assert Reader(path).usage("model")[2].cost is None
    assert Reader(path).usage("model")[0].cost == Decimal("0.000000000009")


def test_the_writer_adds_full_chunks_up(tmp_path):
    path = tmp_path / "usage.sqlite3"
    ledger = Ledger(path)
    rows = [call(number, cost=number) for number in range(CHUNK + 5)]
    for row in rows:
        ledger.add(lambda row=row: rows_of(row, []))
    assert ledger.flush(30)
    ledger.close()
    report = Reader(path).report()
    assert report.summarised == CHUNK
    check(report.total, rows)


def test_the_writer_outlives_a_row_that_cannot_be_added_up(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(number) for number in range(CHUNK - 1)])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE calls SET tags = 'spoilt' WHERE seq = 17")
    ledger = Ledger(path)
    for number in range(CHUNK, CHUNK + 3):
        row = call(number)
        ledger.add(lambda row=row: rows_of(row, []))
        assert ledger.flush(5)
    ledger.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT chunk FROM usage_chunks").fetchall() == [(0,)]
        assert connection.execute("SELECT name FROM usage_sums").fetchall() == []
    with pytest.raises(LedgerError, match=f"call {16:032x}: "):
        Reader(path).report("tag")
