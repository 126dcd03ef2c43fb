"""The repository keeps its own promises."""

import ast
import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("amber", "curation", "samplers", "training")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
OTHERS = sorted(path for name in ("benchmarks", "tests") for path in (ROOT / name).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*/*.md")])
HEAVY = (
    "torch", "efficientnet_lite_pytorch", "fiftyone", "label_studio_sdk", "fastapi", "psycopg",
    "duckdb_extension_ducklake", "httpx", "uvicorn", "starlette", "anyio", "prometheus_client", "ray", "bson",
    "webdataset", "tensorboardX", "onnx", "onnxruntime", "onnxscript", "safetensors", "timm", "optuna",
    "torchvision",
)  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Imports


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import; the name is empty where the module itself is imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def uses(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of whatever a file takes out of our modules, by import or as an attribute of a module."""
    ours = {name_of(module) for module in MODULES}
    local = {}
    for module, name in imports(path):
        if f"{module}.{name}" in ours:
            local[name] = f"{module}.{name}"
        elif name:
            yield module, name
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
            yield local[node.value.id], node.attr


def test_imports_point_down() -> None:
    words = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_all_is_what_exists(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    assert [name for name in exported if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", [*MODULES, *OTHERS], ids=short)
def test_what_is_used_elsewhere_is_exported(path: Path) -> None:
    ours = {name_of(module): module for module in MODULES}
    hidden = {
        f"{module}.{name}"
        for module, name in uses(path)
        if module in ours and name not in getattr(importlib.import_module(module), "__all__", [])
        if path in MODULES or not name.startswith("_")
    }
    assert hidden == set()


def test_the_base_install_works_without_what_is_heavy() -> None:
    code = f"""
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
import curation, samplers, training, training.report, training.run, amber.cli, amber.demo
from amber.cli import run
sys.exit(run(["--version"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_dependency_is_imported_and_every_import_is_declared() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    named = ("train", "export", "timm", "labeling", "service", "ray", "shards", "search")
    declared = [*project["dependencies"], *(text for name in named for text in extras[name])]
    wanted = {normal(re.split(r"[^\w.-]", text)[0]) for text in declared}
    owners = metadata.packages_distributions()
    tops = {module.split(".")[0] for path in MODULES for module, _ in imports(path)} - set(PACKAGES)
    used = {normal(owner) for top in tops - sys.stdlib_module_names for owner in owners[top]}
    assert (
        used | {"httptools", "onnxscript", "python-multipart", "timm", "torchvision"} == wanted
    )  # uvicorn is told its name; torch.onnx and FastAPI import theirs


def test_every_tool_of_the_tests_is_used() -> None:
    declared = PROJECT["project"]["optional-dependencies"]["test"]
    owners = metadata.packages_distributions()
    tops = {module.split(".")[0] for path in OTHERS for module, _ in imports(path)} - sys.stdlib_module_names
    used = {normal(owner) for top in tops for owner in owners.get(top, [])}
    commands = {"import-linter": "lint-imports", "mypy": "mypy", "ruff": "ruff"}
    used |= {name for name, command in commands.items() if f"$(BIN)/{command}" in (ROOT / "Makefile").read_text()}
    used |= {"flask", "flask-cors"} if "moto" in used else set()
    used |= {"pytest-xdist"} if "--numprocesses" in (ROOT / "Makefile").read_text() else set()
    used |= {"pytest-timeout"} if "timeout" in PROJECT["tool"]["pytest"]["ini_options"] else set()
    used |= {"ipykernel"} if "nbclient" in used else set()
    used |= {"axe-core-python"} if any('"axe_core_python"' in path.read_text() for path in OTHERS) else set()
    assert {normal(re.split(r"[^\w.-]", text)[0]) for text in declared} - used == set()


# Packaging


def test_constraints_pin_what_is_installed() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {normal(name): version for name, version in (line.split("==") for line in lines)}
    # of this environment alone: setuptools, once imported, shows the parts that it carries inside itself
    parts = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {normal(part.name): part.version.split("+")[0] for part in parts}
    for own in ("amber-curation", "pip", "setuptools", "wheel"):
        installed.pop(own, None)
    assert {name: version for name, version in installed.items() if pinned.get(name) != version} == {}
    assert [line for line in lines if "+" in line] == []


def test_every_bound_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    bounds = [line for line in lines if re.search(r'"[^"]*[<>=]=?\d[^"]*"', line)]
    assert len(bounds) > 20
    assert [line for line in bounds if not re.search(r'["\]],?\s+# \w+', line)] == []


def test_every_package_and_its_data_are_in_the_wheel() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {name_of(path) for path in MODULES if path.name == "__init__.py"}
    assert set(setuptools["packages"]) == folders
    assert {name_of(path).rpartition(".")[0] for path in MODULES if path.name != "__init__.py"} <= folders
    data = [path for path in tracked() if path.relative_to(ROOT).parts[0] in PACKAGES and path.suffix != ".py"]
    left_out = [
        path
        for path in data
        if not any(
            fnmatch(path.relative_to(ROOT / name.replace(".", "/")).as_posix(), form)
            for name, forms in setuptools["package-data"].items()
            for form in forms
            if path.is_relative_to(ROOT / name.replace(".", "/"))
        )
    ]
    assert left_out == []


def test_datasets_hold_declarations_only() -> None:
    assert {path.suffix for path in tracked() if path.is_relative_to(ROOT / "datasets")} <= {".toml", ".md"}


def test_no_file_or_class_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
    assert [path for path in [*MODULES, *OTHERS] if drawers & {path.stem, path.parent.name}] == []
    classes = [name for path in MODULES for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)]
    assert [name for name in classes if name.endswith(("Manager", "Factory", "Helper"))] == []


def test_nothing_of_this_machine_is_in_the_files() -> None:
    words = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout + os.environ.get(
        "PIP_INDEX_URL", ""
    )
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s'\"]+", told)} - {"pypi.org", None}
    private = {f"{ROOT}/", str(Path.home()), *map(str, hosts)}
    found = {(short(path), text) for path in tracked() for text in private if text in path.read_text(errors="ignore")}
    assert found == set()


# What a reader meets


def lengths(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of every function, and its name; those with `# long: REASON` in their first line are left out."""
    text = path.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(text))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if not re.search(r"# long: \w+", text[node.lineno - 1]):
                yield node.end_lineno - node.lineno + 1, f"{short(path)}: {node.name}"


def test_functions_are_short() -> None:
    found = sorted(row for path in MODULES for row in lengths(path))
    sizes = [size for size, _ in found]
    assert sizes[len(sizes) // 2] <= 8
    assert sizes[len(sizes) * 9 // 10] <= 25
    assert [row for row in found if row[0] > 60] == []


@pytest.mark.parametrize("path", [*MODULES, *OTHERS], ids=short)
def test_files_are_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=short)
def test_every_room_says_what_it_holds_and_may_import(path: Path) -> None:
    """In its docstring; a package at the top and the plugin that FiftyOne loads say so in docs/design.md."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(text) > 40
    if path.parent.parent != ROOT and path.parent.name not in ("plugin", "verbs"):
        assert re.search(r"[Ii]mport", text)


TRANSLATED = re.compile(
    r"\b(han[g]s? on|ane[w]|men[d](s|ed|ing)?|thereo[f]|gone on fro[m]|of which nobod[y]|so that it i[s])\b"
)
"""Phrases that read like a translation, spelled so that this file holds none of them."""


@pytest.mark.parametrize("path", [path for path in [*MODULES, *OTHERS, *PAGES] if path.name != "log.md"], ids=short)
def test_prose_is_plain_english(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if TRANSLATED.search(line)] == []


# What people read


def test_make_lists_every_verb() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\w+", told, re.MULTILINE)) == verbs
    assert set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()) == verbs


def test_every_verb_of_make_that_is_spoken_of_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    spoken = {verb for path in [*PAGES, *MODULES] for verb in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert spoken - verbs - {"bench-name"} == set()


@pytest.mark.parametrize("path", PAGES, ids=short)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


RUN_ELSEWHERE = ("README.md", "packs.md", "tutorial.md")
"""Pages whose blocks test_readme, test_packs_page and test_tutorial run."""


@pytest.mark.parametrize("path", [page for page in PAGES if page.name not in RUN_ELSEWHERE], ids=short)
def test_code_of_the_pages_runs(path: Path, tmp_path: Path) -> None:
    """But that of the pages whose commands are run too, by tests of their own."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    if not blocks:
        return
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    words = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
