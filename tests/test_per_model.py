"""
What a dialect says of one model: which overrides count, and that each name is looked up once.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master.dialect_bedrock import BedrockDialect, bedrock_profile
from llm_master.dialect_cohere import CohereDialect, cohere_profile
from llm_master.dialect_gemini import GeminiDialect
from llm_master.dialect_images import ImagesDialect, PollingDialect
from llm_master.dialect_responses import ResponsesDialect
from llm_master.per_model import by_model
from llm_master.rows import ChatDialect, MessagesDialect
from llm_master.wire.anthropic_rules import rules_for as messages_rules
from llm_master.wire.gemini_draft import rules_for as gemini_rules
from llm_master.wire.openai_chat_plan import plan_for as chat_plan
from llm_master.wire.openai_responses_plan import plan_for as responses_plan

LONGEST = (ChatDialect, ResponsesDialect)
ALL = (ImagesDialect, PollingDialect)
WORDS = (BedrockDialect, CohereDialect)
KINDS = (*LONGEST, *ALL, *WORDS)
MOST = 1024


class Thing:
    """A dialect that can be watched."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_part_wins_and_case_does_not_count(kind: Any) -> None:
    dialect = kind(
        defaults={"own": 1},
        per_model={"alpha-beta": {"drop": ["b"]}, "alpha": {"drop": ["a"], "defaults": {"a": 1}}},
    )
    found = dialect.for_model("x/ALPHA-Beta")
    assert found.drop == {"b"}
    assert found.defaults == ({"own": 1} if kind in LONGEST else {"a": 1})
    assert found.per_model == {}
    assert dialect.for_model("x/alpha").drop == {"a"}
    assert dialect.for_model("gamma") is dialect


@pytest.mark.parametrize("kind", KINDS)
def test_what_touches_a_part(kind: Any) -> None:
    dialect = kind(per_model={"nova-2": {"drop": ["n"]}})
    assert dialect.for_model("us.amazon.nova-2-lite").drop == {"n"}
    assert dialect.for_model("nova-20").drop == (frozenset() if kind in WORDS else {"n"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("override", [{"dropp": []}, {"drop": 7}])
def test_a_wrong_override_is_found_when_the_row_is_read(kind: Any, override: dict[str, Any]) -> None:
    for make in (kind, lambda **fields: msgspec.convert(fields, kind)):
        with pytest.raises(msgspec.ValidationError):
            make(per_model={"m": override})


@pytest.mark.parametrize("kind", LONGEST)
def test_the_word_for_sampling_holds_in_overrides_too(kind: Any) -> None:
    dialect = kind(drop=frozenset(("sampling", "seed")), per_model={"m": {"drop_reasoning": ["sampling"]}})
    assert {"seed", "temperature", "top_p"} <= dialect.drop
    assert "sampling" not in dialect.drop
    assert "temperature" in dialect.for_model("m1").drop_reasoning


@pytest.mark.parametrize(
    ("find", "dialect"),
    [
        (bedrock_profile, BedrockDialect(per_model={"m": {"cache": True}})),
        (cohere_profile, CohereDialect(per_model={"m": {"thinking": False}})),
        (gemini_rules, GeminiDialect()),
        (messages_rules, MessagesDialect()),
        (chat_plan, ChatDialect(per_model={"m": {"reasons": True}})),
        (responses_plan, ResponsesDialect(per_model={"m": {"reasons": True}})),
    ],
)
def test_every_family_looks_a_name_up_once(find: Callable[[Any, str], Any], dialect: Any) -> None:
    assert find(dialect, "m-1") is find(dialect, "m-1")
    assert find(dialect, "m-1") is not find(msgspec.structs.replace(dialect, drop=frozenset(("x",))), "m-1")


def test_names_without_end_do_not_fill_the_memory() -> None:
    made: list[str] = []
    find = by_model(lambda thing, name: made.append(name) or (thing, name))  # type: ignore[func-returns-value]
    thing = Thing()
    for number in range(MOST + 1):
        assert find(thing, f"m-{number}") == (thing, f"m-{number}")
    assert find(thing, f"m-{MOST}") == (thing, f"m-{MOST}")
    assert len(made) == MOST + 1
    find(thing, "m-0")  # forgotten with the others when there were too many
    assert made[-1] == "m-0"
    seen, thing = weakref.ref(thing), Thing()
    for number in range(MOST + 1):
        find(thing, f"n-{number}")
    gc.collect()
    assert seen() is None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c"])), max_size=30))
def test_two_dialects_do_not_mix(asked: list[tuple[int, str]]) -> None:
    find = by_model(lambda thing, name: (thing, name))
    things = [Thing() for _ in range(4)]
    assert all(find(things[which], name) == (things[which], name) for which, name in asked)
