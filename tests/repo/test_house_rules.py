"""Rules of CONTRIBUTING.md that no linter knows."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 450
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)(_|$)")
# An author's own folders, which mean nothing to a reader.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users|root|work|opt/pypi)/\w+")
CODE = {".py", ".js", ".css", ".html", ".sh"}


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:  # a source archive
        paths = [p for p in ROOT.rglob("*") if not any(part[0] == "." for part in p.parts[1:])]
    return [path for path in paths if path.is_file()]


FILES = tracked()
SOURCES = [path for path in FILES if path.suffix in CODE]
TEXTS = [*SOURCES, *(p for p in FILES if p.suffix in {".md", ".yaml", ".yml", ".toml", ".conf"})]


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert named([path for path, lines in lengths.items() if lines > LONGEST]) == []


def test_names_say_what_is_inside() -> None:
    assert named([path for path in SOURCES if FORBIDDEN_NAMES.search(path.stem)]) == []


def test_nothing_names_an_authors_machine() -> None:
    here = Path(__file__)
    found = [p for p in TEXTS if p != here and MACHINE_PATHS.search(p.read_text())]
    assert named(found) == []


def modules() -> Iterator[Path]:
    for path in FILES:
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in {
            "router",
            "engine",
            "kernels",
        }:
            yield path


@pytest.mark.parametrize("path", list(modules()), ids=named(list(modules())))
def test_modules_open_with_their_theory_of_operation(path: Path) -> None:
    tree = ast.parse(path.read_text())
    documentation = ast.get_docstring(tree)
    if not tree.body:
        return
    assert documentation, "no module docstring"


def test_each_balancer_file_is_in_the_registry() -> None:
    from router.core import balancers

    registered = {balancer.__module__ for balancer in balancers.REGISTRY}
    defining = {
        f"router.core.balancers.{path.stem}"
        for path in (ROOT / "router/core/balancers").glob("*.py")
        if re.search(r"class Spec\(BalancerSpec", path.read_text())
    }
    assert defining
    assert defining == registered


def links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            yield target


MARKDOWN = [path for path in FILES if path.suffix == ".md"]


@pytest.mark.parametrize("path", MARKDOWN, ids=named(MARKDOWN))
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path):
        file, _, anchor = target.partition("#")
        destination = (path.parent / file).resolve() if file else path
        assert destination.exists(), target
        if anchor and destination.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", destination.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]  # type: ignore[no-any-return]


def requirements() -> Iterator[Requirement]:
    table = project()
    groups = table["optional-dependencies"]
    assert isinstance(groups, dict)
    listed = table["dependencies"]
    assert isinstance(listed, list)
    for text in [*listed, *(item for group in groups.values() for item in group)]:
        requirement = Requirement(text)
        if requirement.name != table["name"]:
            yield requirement


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert version, f"{line}: not an exact pin"
            pins[canonicalize_name(name)] = version
    for requirement in requirements():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin, prereleases=True), str(requirement)


def test_the_base_install_has_no_torch() -> None:
    base = {canonicalize_name(Requirement(str(text)).name) for text in project()["dependencies"]}  # type: ignore[attr-defined]
    assert not base & {"torch", "transformers", "numpy", "tokenizers", "safetensors"}


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert {"setup", "demo", "test", "test-all", "check", "bench", "clean"} <= targets
