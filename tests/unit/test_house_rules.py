"""House rules that ruff cannot hold, read from the files themselves."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "behavior_llava"
SOURCES = sorted(SRC.rglob("*.py"))

# Files from outside are opened here, and a decoder may raise anything; it becomes a counted reason.
MAY_CATCH_ALL = ("core/media.py", "core/workers.py", "data/sources/")

MACHINE_PATH = re.compile(
    r"(?:(?<![\w.:/~*-])|file://)/(?:root|home/[\w.-]+|Users/[\w.-]+|work|opt|mnt|tmp)/"
)
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|npmjs)\.(?:org|com)/simple|files\.pythonhosted|registry\.npmjs|registry\.yarnpkg"
    r"|--(?:extra-)?index-url[ =]|--find-links[ =]|--trusted-host[ =]|proxy\.golang"
)


def prints(source: str) -> list[int]:
    """The lines of a source text that call print."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def catches_all(source: str) -> list[int]:
    """The lines that catch everything and do not end by raising it again."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = node.type is None or {"Exception", "BaseException"} & {
            ast.unparse(kind) for kind in kinds if kind
        }
        last = node.body[-1]
        if broad and not (isinstance(last, ast.Raise) and last.exc is None):
            lines.append(node.lineno)
    return lines


def tracked_or_new() -> list[Path]:
    """What git tracks, and new files it does not ignore; of a tree without git, the folders we write."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        paths = [
            path
            for folder in ("src", "tests", "configs", "docs", ".ci")
            for path in (ROOT / folder).rglob("*")
        ]
        paths += ROOT.glob("*")
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


FILES = tracked_or_new()


def text_of(path: Path) -> str | None:
    """A file as text; None where it is binary."""
    content = path.read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def test_all_files_were_seen() -> None:
    assert len(SOURCES) >= 50
    assert len(FILES) >= len(SOURCES) + 20
    assert set(SOURCES) <= set(FILES)


def test_nothing_prints() -> None:
    found = [
        f"{path.relative_to(SRC)}:{line}" for path in SOURCES for line in prints(path.read_text("utf-8"))
    ]
    assert found == []


def test_nothing_catches_everything() -> None:
    found = [
        f"{path.relative_to(SRC)}:{line}"
        for path in SOURCES
        if not path.relative_to(SRC).as_posix().startswith(MAY_CATCH_ALL)
        for line in catches_all(path.read_text("utf-8"))
    ]
    assert found == []


def test_no_path_of_one_machine_and_no_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in FILES
        if (text := text_of(path)) is not None
        for number, line in enumerate(text.splitlines(), 1)
        if path != Path(__file__) and (MACHINE_PATH.search(line) or REGISTRY.search(line))
    ]
    assert found == []


def test_every_config_opens_with_its_command() -> None:
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert configs
    for path in configs:
        first = path.read_text("utf-8").splitlines()[0]
        assert first.startswith("#"), path.name
        assert re.search(rf"behavior[-_]llava \w+ .*configs/{re.escape(path.name)}\b", first), path.name


def test_fixtures_are_made_in_code() -> None:
    files = [path for path in FILES if path.is_relative_to(ROOT / "tests")]
    assert len(files) >= 10
    assert [str(path.relative_to(ROOT)) for path in files if text_of(path) is None] == []


# ---- the rules themselves: each sees what it is for --------------------------------------------------------


def test_the_rules_see_print_and_broad_excepts() -> None:
    assert prints("print('x')\nconsole.print('x')") == [1]
    assert catches_all("try:\n    x\nexcept:\n    y") == [3]
    assert catches_all("try:\n    x\nexcept (OSError, Exception) as e:\n    y") == [3]
    assert catches_all("try:\n    x\nexcept BaseException:\n    y\n    raise") == []
    assert catches_all("try:\n    x\nexcept OSError:\n    y") == []


@pytest.mark.parametrize(
    "line",
    [
        "x = '/root/x'",
        "cd /home/someone/x",
        "file:///opt/x",
        '"/tmp/x"',
        "(/Users/someone/x)",
        "=/home/a/main",
    ],
)
def test_the_rule_sees_machine_paths(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ["https://example.org/work/1", "src/opt/x", "./tmp/x", "$room/home/a/b", "r/root/x"]
)
def test_the_rule_lets_other_paths_be(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_the_rule_sees_registries() -> None:
    assert REGISTRY.search("pip install --index-url x")
    assert REGISTRY.search("https://pypi.org/simple/torch")
    assert not REGISTRY.search("https://pypi.org/project/torch")
