"""The house is in order: what is committed, pinned, named and promised about the checkout itself."""

import ast
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "operators", "sources", "sinks", "flows")
MAX_LINES = 400

# With a class around one letter of each, so that this file holds none of what it looks for.
REGISTRY = re.compile(r"[p]ypi\.(?:org|io|python)|[p]ythonhosted|[r]epo1?\.maven|[r]egistry\.npm|[e]xtra-index-url")
MACHINE = re.compile(r"(?<![\w.$}])/(?:work|root|home)/\w|/opt/[w]heels|/tmp/(?:w/|venv)|[.]pyenv/")


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def files() -> tuple[Path, ...]:
    """Return what is committed, or would be."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("optional: not a git checkout")
    command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in sorted(listed.split("\0")) if name and (path := ROOT / name).is_file())


def texts() -> dict[str, str]:
    found = {}
    for path in files():
        try:
            found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text: a recorded log, a picture
    return found


def modules() -> dict[str, str]:
    return {name: text for name, text in texts().items() if name.endswith(".py")}


def locked(name: str) -> dict[str, str]:
    """Return the versions that a lock pins, by package."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE))


def pins(requirements: list[str]) -> dict[str, str]:
    """Return name and version of requirements, every one of which must be exact."""
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;,]+)", requirement)
        assert match, f"{requirement}: not pinned to one version"
        found[match[1].lower()] = match[2]
    return found


@pytest.mark.parametrize("pattern", [REGISTRY, MACHINE], ids=["registry", "machine path"])
def test_no_file_names_a_registry_or_a_machine_path(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_modules_are_short() -> None:
    assert {name: n for name, text in modules().items() if (n := len(text.splitlines())) > MAX_LINES} == {}


def test_every_folder_of_modules_is_a_package_that_says_what_it_is_for() -> None:
    code = modules()
    folders = {str(Path(name).parent) for name in code if name.startswith(PACKAGES)}
    assert folders >= set(PACKAGES)
    bare = [folder for folder in folders if not ast.get_docstring(ast.parse(code.get(f"{folder}/__init__.py", "")))]
    assert bare == []


def test_readme_names_the_two_commands_and_every_command_in_it_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE) + re.findall(r"`make ([a-z-]+)", readme)
    assert {"demo", "test"} <= set(commands)
    assert set(commands) <= set(targets)


def test_changelog_has_a_place_for_what_comes() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert set(re.findall(r"^### (.+)", changelog, re.MULTILINE)) <= {
        "Breaking",
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_version_has_one_source() -> None:
    assert importlib.metadata.version("attune") == project()["project"]["version"]
    again = [name for name, text in modules().items() if re.search(r"^__version__\s*=", text, re.MULTILINE)]
    assert again == []


def test_locks_pin_what_the_project_asks_for() -> None:
    groups = project()["dependency-groups"]
    run, dev = locked("run.txt"), locked("dev.txt")
    assert pins(project()["project"]["dependencies"]).items() <= run.items()
    assert pins(groups["build"]).items() <= run.items()
    assert pins(groups["dev"]).items() <= dev.items()
    assert run.items() <= dev.items(), "what is tested is what is run"
    assert groups["build"] == project()["build-system"]["requires"], "the locked backend is the one that builds"


@pytest.mark.parametrize("lock", ["run.txt", "dev.txt"])
def test_every_line_of_a_lock_is_a_pin_or_a_hash(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert text.startswith("# This file was autogenerated by uv via the following command:\n#    make lock\n")
    entry = re.compile(r"[a-z0-9._-]+==[^\s;]+(?: ; [^\n\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    body = text.partition("make lock\n")[2]
    assert entry.sub("", body) == ""
    assert len(entry.findall(body)) == len(locked(lock)), "a package is pinned twice"


def pip_install(requirements: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    """Install as the Makefile does, but from a folder and into one."""
    flags = ["--require-hashes", "--only-binary", ":all:", "--no-index", "--find-links", str(wheels)]
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", *flags]
    command += ["--target", str(wheels / "installed"), "-r", str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_changed_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    good = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = tmp_path / "lock.txt"

    lock.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64 if good[0] != '0' else '1' * 64}\n", encoding="utf-8")
    changed = pip_install(lock, tmp_path)
    assert changed.returncode != 0
    assert "DO NOT MATCH THE HASHES" in changed.stderr

    lock.write_text("tiny==1.0\n", encoding="utf-8")
    bare = pip_install(lock, tmp_path)
    assert bare.returncode != 0
    assert "Hashes are required" in bare.stderr
    assert not (tmp_path / "installed").exists()

    lock.write_text(f"tiny==1.0 --hash=sha256:{good}\n", encoding="utf-8")
    right = pip_install(lock, tmp_path)
    assert right.returncode == 0, right.stderr
    assert (tmp_path / "installed/tiny.py").exists()


def test_every_installation_of_the_makefile_needs_hashes() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LOCKED := .*--require-hashes --only-binary :all:$", makefile, re.MULTILINE)
    installs = re.findall(r"^\t\$\((?:INSTALL|LOCKED)\).*$|^.*pip install.*$", makefile, re.MULTILINE)
    assert len(installs) == 3
    for line in installs:
        assert line.startswith("\t$(LOCKED) -r ") or "--no-deps --no-build-isolation --editable ." in line


def test_without_a_usable_python_make_says_what_to_do(tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make, "the project's commands are targets of make"
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    result = subprocess.run(
        [make, "setup", "PYTHON=false"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "Attune needs Python 3.11 or 3.12; tried: false. Install one, or name it" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_ci_script_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "\nset -euo pipefail\n" in text
    assert re.search(r"^make check$", text, re.MULTILINE)
    assert re.search(r"^make test\b", text, re.MULTILINE)
