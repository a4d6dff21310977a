"""
The house keeps its shape: arrows point down, files stay short, providers stay data, and importing stays light.
"""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "llm_master"

# Lowest first. A file imports only from lower floors; "wire" stands for the package and every file in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("redaction", "retry_after", "pictures", "exits", "image_header", "key_variables", "late", "money", "any_json"),
    ("errors", "built", "cost"),
    ("media", "books", "per_model"),
    (
        *("classes", "classify", "config", "rows", "params", "image_input", "fetch_rules", "catalogue", "toml_lines"),
        *("efforts", "dialect_responses", "dialect_gemini", "dialect_cohere", "dialect_bedrock", "dialect_images"),
        "price_files",
    ),
    ("answers", "file_input", "draft", "bodies", "history", "subset", "metering", "tracking", "prices"),
    (
        "addresses",
        "drawing",
        "operations",
        "vectors",
        "asking",
        "sound",
        "events",
        "messages",
        "resolution",
        "schemas",
        "settings_parts",
        "settings_rules",
        "model_facts",
        "functions",
        "thinking",
    ),
    ("structured", "candidates", "prompt_caching", "defaults", "pricing", "refusals", "opening", "folding"),
    ("wire",),
    ("endpoint", "families", "sigv4", "google_token", "alarms", "explanation"),
    ("incoming", "body_changes", "presets"),
    ("transport", "registration", "fetch"),
    ("inlining", "threads", "unexpected"),
    ("policy",),
    ("capabilities", "guard", "image_limits", "settings_budgets", "settings_ledger", "settling", "structural"),
    ("target", "stream", "pools", "settings", "limiting"),
    ("record", "spending", "state", "operating", "tokenizer", "pieces"),
    ("admission", "sources", "custom", "blocking", "providers", "flights", "clients"),
    ("base_provider", "chain", "saving", "telemetry"),
    ("resume", "assembly", "arguments", "lifecycle", "tools", "operation_calls", "stand_ins"),
    ("explain_cost",),
    ("explain", "operation_streams"),
    ("explain_operations",),
    ("services",),
    ("calls", "modalities"),
    ("caching",),
    ("ledger",),
    ("engine",),
    ("response_synthesizer",),
    ("bulk", "patterns"),
    ("compat", "gateway", "cli"),
)
WIRE = 7

# The files of these packages may build on each other, never in a circle. Those of policy stand alone; those of wire and
# of providers may use their own family (the beginning of their names), those of wire also sse and sse_fold,
# those of providers also polling, the base of services that take jobs.
TOGETHER = {"telemetry", "cli", "compat", "gateway", "ledger", "catalogue", "prices"}
FAMILIES = (
    *(
        "openai_chat",
        "openai_images",
        "openai_responses",
        "openai_audio",
        "openai_embeddings",
        "anthropic",
        "gemini",
        "cohere",
        "bedrock",
    ),
    *("local", "bfl", "limits", "cache"),
)

NETWORK = {"socket", "ssl", "selectors", "asyncio", "aiohttp", "requests", "http", "httpx", "socketserver"}
READERS = {"config", "price_files", "prices", "catalogue", "image_input", "sound"}
HEAVY = {"openai", "anthropic", "aiohttp", "pydantic", "requests", "rich", "typer", "tenacity", "genai_prices"}
LONGEST_FILE = 450


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def top(name: str) -> str:
    return name.partition(".")[0]


def arrows(tree: ast.AST) -> set[str]:
    """Every module of the package that a file imports, wherever and for whatever the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if top(alias.name) == "llm_master"}
        elif isinstance(node, ast.ImportFrom) and top(node.module or "") == "llm_master":
            base = (node.module or "").partition(".")[2]
            whole = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            found |= {name if name in MODULES else base for name in whole}
    return found - {""}


def floor_of(name: str) -> int:
    for number, members in enumerate(FLOORS):
        if top(name) in members:
            return number
    raise AssertionError(f"llm_master.{name} has no floor: give it one in FLOORS")


def family(name: str) -> str | None:
    leaf = name.partition(".")[2]
    return next((each for each in FAMILIES if leaf.startswith(each)), None)


def may_import(importer: str, imported: str) -> bool:
    mine, theirs = floor_of(importer), floor_of(imported)
    if mine != theirs:
        return theirs < mine
    package = top(importer)
    if package != top(imported):
        return False
    if package in ("wire", "providers", "policy"):
        return imported in ("wire.sse", "wire.sse_fold", "providers.polling") or (
            family(importer) is not None and family(importer) == family(imported)
        )
    return package in TOGETHER


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_arrows_point_down(name: str) -> None:
    assert [imported for imported in sorted(arrows(trees()[name])) if not may_import(name, imported)] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("errors", "redaction", True),
        ("redaction", "errors", False),
        ("rows", "classify", False),
        ("wire.openai_chat", "wire.sse", True),
        ("wire.openai_chat", "wire.openai_chat_decode", True),
        ("wire.openai_chat", "wire.anthropic_messages", False),
        ("wire.sse", "wire.openai_chat", False),
        ("wire.openai_chat", "transport", False),
        ("policy.retry", "policy.deadline", False),
        ("providers.local", "providers.local_process", True),
        ("providers.local", "providers.bfl", False),
        ("providers.fal", "providers.polling", True),
        ("response_synthesizer", "base_provider", True),
        ("base_provider", "response_synthesizer", False),
        ("cli.main", "cli.ask", True),
        ("gateway.server", "cli.main", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def test_a_new_file_needs_a_floor() -> None:
    with pytest.raises(AssertionError, match=r"llm_master\.attic has no floor"):
        floor_of("attic")


def test_arrows_see_every_form_of_import() -> None:
    source = (
        "import llm_master.errors\ndef f():\n    from llm_master import rows\n    from llm_master.wire.sse import x\n"
    )
    assert arrows(ast.parse(source)) == {"errors", "rows", "wire.sse"}
    assert arrows(ast.parse("from llm_master import __version__\nimport json\n")) == set()


def test_no_import_is_relative() -> None:
    relative = [
        f"{name}:{node.lineno}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that lie on, or lead only to, an import circle."""
    left = dict(graph)
    while left:
        free = [name for name, used in left.items() if not (used - {name}) & left.keys()]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]
    return []


def test_no_import_runs_in_a_circle() -> None:
    assert circle({name: arrows(tree) for name, tree in trees().items() if name}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c"]


def imported_from_outside(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_the_low_floors_open_no_socket() -> None:
    low = {name: tree for name, tree in trees().items() if name and floor_of(name) <= WIRE}
    assert "classes" in low
    assert {"wire.sse", "errors"} <= low.keys()
    found = {
        name: sorted(module for module in imported_from_outside(tree) if top(module) in NETWORK)
        for name, tree in low.items()
    }
    found |= {name: ["urllib.request"] for name, tree in low.items() if "urllib.request" in imported_from_outside(tree)}
    assert {name: modules for name, modules in found.items() if modules} == {}


def file_reads(tree: ast.AST) -> list[int]:
    words = {"open", "read_text", "read_bytes"}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in words)
            or (isinstance(node.func, ast.Attribute) and node.func.attr in words)
        )
    ]


def test_the_low_floors_read_no_file_but_in_the_known_places() -> None:
    reading = {top(name) for name, tree in trees().items() if name and floor_of(name) <= WIRE and file_reads(tree)}
    assert reading <= READERS
    assert file_reads(ast.parse("open('a')\nPath('b').read_bytes()\nx.read()")) == [1, 2]


def is_provider(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    of_a_row = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "row"
    return name in ("provider", "provider_name", "provider_key") or (of_a_row and name in ("name", "key"))


def is_word(node: ast.AST) -> bool:
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(is_word(each) for each in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""


def decides_by_provider(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(map(is_provider, sides)) and any(map(is_word, sides))
    if isinstance(node, ast.Match):
        return is_provider(node.subject)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("startswith", "endswith") and is_provider(node.func.value)
    return False


def providers_named(tree: ast.AST) -> list[int]:
    """Lines where code decides by a provider's name."""
    return [node.lineno for node in ast.walk(tree) if decides_by_provider(node)]


@pytest.mark.parametrize("name", list(MODULES))
def test_no_code_names_a_provider(name: str) -> None:
    assert providers_named(trees()[name]) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("if provider == 'openai': x()", 1),
        ("if 'groq' != self.provider: x()", 1),
        ("y = row.name in ('xai', 'groq')", 1),
        ("match provider_name:\n    case 'openai': x()", 1),
        ("if provider.startswith('open'): x()", 1),
        ("if provider == other: x()", 0),
        ("if row.tool_ids == 'alnum9': x()", 0),
        ("if provider == '': x()", 0),
    ],
)
def test_a_provider_in_code_is_seen(source: str, count: int) -> None:
    assert len(providers_named(ast.parse(source))) == count


def swallows(node: ast.AST) -> bool:
    broad = {"Exception", "BaseException"}
    if isinstance(node, ast.ExceptHandler):
        caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else broad
        return bool(caught & broad) and all(
            isinstance(each, (ast.Pass, ast.Continue))
            or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            for each in node.body
        )
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
        return bool(broad & {ast.unparse(argument) for argument in node.args})
    return False


def swallowed(tree: ast.AST) -> list[int]:
    """Lines that catch everything and do nothing about it; only ``__del__`` may, where nobody could be told."""
    finalizers = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__del__"]
    spared = {id(inner) for finalizer in finalizers for inner in ast.walk(finalizer)}
    return [node.lineno for node in ast.walk(tree) if swallows(node) and id(node) not in spared]


@pytest.mark.parametrize("name", list(MODULES))
def test_no_error_is_swallowed(name: str) -> None:
    assert swallowed(trees()[name]) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("try: x()\nexcept Exception: pass", 1),
        ("try: x()\nexcept: pass", 1),
        ("try: x()\nexcept (ValueError, BaseException): ...", 1),
        ("with contextlib.suppress(Exception): x()", 1),
        ("try: x()\nexcept ValueError: pass", 0),
        ("try: x()\nexcept Exception as e: raise Y from e", 0),
        ("with suppress(OSError): x()", 0),
        ("class A:\n    def __del__(self):\n        with suppress(Exception): x()", 0),
        ("class A:\n    def close(self):\n        with suppress(Exception): x()", 1),
    ],
)
def test_a_swallowed_error_is_seen(source: str, count: int) -> None:
    assert len(swallowed(ast.parse(source))) == count


def test_files_stay_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def loaded_after(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a program."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_making_a_client_loads_nothing_heavy() -> None:
    loaded = loaded_after("import llm_master\nllm_master.QueryLLM()")
    assert "llm_master" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_package_loads_none_of_its_modules() -> None:
    program = "import llm_master, sys\nassert [m for m in sys.modules if m.startswith('llm_master.')] == []"
    assert loaded_after(program) & (HEAVY | {"msgspec", "asyncio"}) == set()


def test_every_module_can_be_imported_first() -> None:
    # A circle that one order of imports hides shows up in another.
    names = sorted(f"llm_master.{name}" for name in MODULES if name)
    program = (
        "import subprocess, sys, importlib\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] == 'llm_master']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
