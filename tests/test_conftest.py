"""
What every test gets: an environment without the keys, addresses and proxies of whoever runs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

LEFT_OUT = ("OPENAI_API_KEY", "HF_TOKEN", "VLLM_BASE_URL", "NAME_API_URL", "HTTPS_PROXY", "no_proxy")
KEPT = "LLM_MASTER_REDIS_URL"


@pytest.fixture(scope="module", autouse=True)
def _user_with_keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in (*LEFT_OUT, KEPT):
            patch.setenv(name, "x")
        yield


def test_a_test_sees_no_key_address_or_proxy() -> None:
    assert not os.environ.keys() & set(LEFT_OUT)
    assert os.environ[KEPT] == "x"
