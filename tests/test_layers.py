"""The architecture's import rules: imports go one way, and the client's side loads nothing of the server."""

import ast
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"

# Each layer may import from itself and from the layers before it; docs/architecture.md says what each is for.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("kixo", "kixo.errors", "kixo.event", "kixo.places", "kixo.settings", "kixo.metrics"),
    (
        "kixo.timestamp",
        "kixo.depth",
        "kixo.stored",
        "kixo.decode",
        "kixo.inflate",
        "kixo.clock",
        "kixo.identity",
        "kixo.excerpt",
        "kixo.openapi",
        "kixo.files",
        "kixo.format_card",
        "kixo.layout",
        "kixo.mapped_file",
        "kixo.moved",
        "kixo.metric_file",
        "kixo.server_card",
        "kixo.snapshot",
    ),
    ("kixo.client",),
    (
        "kixo.log",
        "kixo.lake",
        "kixo.key_use",
        "kixo.limits",
        "kixo.load_record",
        "kixo.refused",
        "kixo.registry",
    ),
    (
        "kixo.formats",
        "kixo.ingest",
        "kixo.dry_run",
        "kixo.loader",
        "kixo.query",
        "kixo.audit",
        "kixo.rejected",
        "kixo.tail",
    ),
    ("kixo.http", "kixo.console", "kixo.output"),
    ("kixo.server",),
    ("kixo.bench", "kixo.conformance", "kixo.send"),
    ("kixo.cli",),
    ("kixo.__main__",),
)
LIGHT = ("kixo", "kixo.errors", "kixo.event", "kixo.settings", "kixo.metrics", "kixo.timestamp", "kixo.client")
# `from kixo import Client` loads the client then, and not before.
LAZY = {("kixo", "kixo.client")}
HEAVY = {"duckdb", "pyarrow", "deltalake", "granian", "numpy", "sqlalchemy", "starlette", "rich", "uvloop"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int:
    for number, layer in enumerate(LAYERS):
        if any(module == name or (name != "kixo" and module.startswith(name + ".")) for name in layer):
            return number
    raise AssertionError(f"{module} is in no layer: give it a place in LAYERS and in docs/architecture.md")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {child for child in children if is_module(child)} or {node.module}
    return {name for name in found if name.split(".")[0] == "kixo"}


def is_module(name: str) -> bool:
    path = SOURCE / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_every_module_imports_only_from_its_own_layer_and_those_before() -> None:
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in sorted(SOURCE.rglob("*.py"))
        for imported in sorted(imports_of(path))
        if (module_name(path), imported) not in LAZY
        if layer_of(imported) > layer_of(module_name(path))
    ]
    assert wrong == []


def test_the_light_modules_load_nothing_of_the_server() -> None:
    script = f"import sys, {', '.join(LIGHT)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) & HEAVY == set()


def loaded_by(statement: str) -> set[str]:
    script = f"{statement}; import sys; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def test_the_client_loads_nothing_of_kixo_but_words_and_itself() -> None:
    loaded = {name for name in loaded_by("from kixo import Client") if name.split(".")[0] == "kixo"}
    assert "kixo.client.client" in loaded
    assert {name for name in loaded if not name.startswith("kixo.client")} <= set(LIGHT)


def test_the_server_does_not_load_the_client() -> None:
    loaded = loaded_by("import kixo, kixo.server.worker, kixo.cli")
    assert "kixo.server.worker" in loaded
    assert {name for name in loaded if name.startswith("kixo.client")} == set()


def test_the_private_port_loads_nothing_of_what_query_processes_load() -> None:
    loaded = loaded_by("import kixo.server.console")
    assert "kixo.query.pool" in loaded
    assert loaded & {"duckdb", "pyarrow", "deltalake"} == set()


def test_every_module_says_what_is_in_it() -> None:
    silent = [module_name(path) for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [name for name in silent if path_has_code(name)] == []


def path_has_code(module: str) -> bool:
    path = SOURCE / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return bool(file.read_text("utf-8").strip())
