import random

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master.catalogue import load_rows
from llm_master.classes import ModelConfig
from llm_master.errors import InvalidRequestError, LLMError, ModelNotFoundError
from llm_master.resolution import Route, resolve
from llm_master.rows import ProviderRow

SHIPPED = {key: ProviderRow.parse(key, row) for key, row in load_rows().items()}


class Custom:
    """Stands for a provider class of a user's own."""


class Other:
    """A second one."""


PIECES = ["gpt", "o1", "o3", "claude", "mistral", "grok", "gguf", "oss", "4", "x", "a", "-", "/", ":", ".", "q", "z9"]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join)
KEYS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
TARGETS = st.sampled_from([("openai", None), ("groq", None), (None, Custom), (None, Other)])
MAPS = st.dictionaries(KEYS, TARGETS, max_size=6)
# A map, and a name that is likely to hold several of its keys.
CROWDED = st.dictionaries(KEYS, TARGETS, min_size=3, max_size=6).flatmap(
    lambda keys: st.tuples(
        st.just(keys),
        st.lists(st.sampled_from([*keys, *keys, *keys, *PIECES[-6:]]), min_size=2, max_size=7).map("".join),
    )
)
ENTRIES = st.builds(ModelConfig, provider=st.sampled_from([None, "groq", "Claude"]), model=st.sampled_from([None, "m"]))
REGISTRIES = st.dictionaries(NAMES, ENTRIES, max_size=4)
# A name that leads nowhere is compared with every other for the error: that takes 20 ms.
FEWER = settings(deadline=None, max_examples=60)


def outcome(name, *, rows=SHIPPED, registry=None, provider_map=None):
    try:
        return resolve(name, rows=rows, registry=registry or {}, provider_map=provider_map or {})
    except LLMError as error:
        return (type(error), str(error))


def shuffled(table, seed):
    items = list(table.items())
    random.Random(seed).shuffle(items)
    return dict(items)


@FEWER
@given(CROWDED | st.tuples(MAPS, NAMES), REGISTRIES, st.integers())
def test_dict_order_never_matters(crowded, registry, seed):
    provider_map, name = crowded
    expected = outcome(name, provider_map=provider_map, registry=registry)
    actual = outcome(
        name,
        rows=shuffled(SHIPPED, seed),
        provider_map=shuffled(provider_map, seed + 1),
        registry=shuffled(registry, seed + 2),
    )
    assert actual == expected


@FEWER
@given(NAMES, MAPS, st.integers())
def test_case_never_changes_the_provider(name, provider_map, seed):
    dice = random.Random(seed)
    other = "".join(char.upper() if dice.random() < 0.5 else char for char in name)
    first, second = outcome(name, provider_map=provider_map), outcome(other, provider_map=provider_map)
    if isinstance(first, Route):
        assert (second.provider, second.provider_class, second.how) == (
            first.provider,
            first.provider_class,
            first.how,
        )
        assert second.model.lower() == first.model.lower()
    else:
        assert second[0] is first[0]


@given(
    st.sampled_from([name for key, row in SHIPPED.items() for name in (key, *row.aliases)]),
    st.sampled_from("/:"),
    st.text(min_size=1).filter(str.strip),
    MAPS,
)
def test_an_explicit_prefix_always_wins_and_the_rest_is_sent_as_written(prefix, separator, rest, provider_map):
    whole = f"{prefix}{separator}{rest}"
    provider_map = {key: value for key, value in provider_map.items() if key.lower() != whole.lower()}
    route = outcome(whole, provider_map=provider_map)
    assert route.how == "explicit"
    assert prefix in {route.provider, *SHIPPED[route.provider].aliases}
    assert route.model == rest


@FEWER
@given(st.text(max_size=30))
def test_any_text_gives_a_route_or_a_typed_error(name):
    result = outcome(name)
    if not isinstance(result, Route):
        assert result[0] in {ModelNotFoundError, InvalidRequestError}
