"""No secret lies in the repository, and the check of dependencies says what it found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SECRETS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a key of Amazon": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_\w{60,})"),
    "a token of GitLab, Slack, Hugging Face, OpenAI or PyPI": re.compile(
        r"\b(?:glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|hf_[A-Za-z]{30,}|sk-[\w-]{32,}|pypi-[\w-]{50,})"
    ),
    "a key of Google": re.compile(r"\bAIza[\w-]{35}\b"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password within an address": re.compile(r"://[^\s/:@'\"`{}$<>]+:(?!secret|password|\*)[^\s/:@'\"`{}$<>]{12,}@"),
    "a token of Label Studio": re.compile(
        r"(?<![0-9a-f/@_-])(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{40}(?![0-9a-f])"
    ),
}
"""What a secret looks like."""

EXPLAINED = {
    "tests/assets/data-folder/settings.env": "digits in their order",
    "tests/assets/loopback.pem": "of a server on loopback that tests start",
    "tests/assets/photos.example.pem": "of a host that does not exist",
    "tests/unit/backend/images/test_cache.py": "digits in their order",
    "tests/unit/backend/system/test_logs.py": "made up, for what logs must not show",
}
"""Files that may have what looks like one, and why."""


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout of git")
    return [name for name in done.stdout.decode().split("\0") if name]


def secrets_in(text: str) -> list[str]:
    return [what for what, pattern in SECRETS.items() if pattern.search(text)]


def test_no_secret_lies_in_the_repository() -> None:
    found = {}
    for name in tracked():
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content[:8000] and name not in EXPLAINED:
            found[name] = secrets_in(content.decode("utf-8", "replace"))
    assert {name: what for name, what in found.items() if what} == {}
    assert set(EXPLAINED) <= set(found) | {name for name in EXPLAINED if (ROOT / name).is_file()}


@pytest.mark.parametrize(
    "planted",
    [
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1" * 18,
        "postgresql://ann:" + "correct-horse-battery@db/x",
        'API_KEY = "' + "0123456789abcdef" * 2 + '01234567"',
        "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
    ],
)
def test_a_planted_secret_is_found(planted: str) -> None:
    assert secrets_in(planted)


@pytest.mark.parametrize(
    ("report", "status", "says"),
    [
        (None, 0, "Known vulnerabilities were not looked up, because their list cannot be had: no network"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "No known vulnerability in 1 packages."),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}',
            1,
            "a 1: X-1, mended in 2.",
        ),
    ],
)
def test_the_check_of_dependencies_fails_for_what_it_found_only(
    tmp_path: Path, report: str | None, status: int, says: str
) -> None:
    written = "" if report is None else f"open(sys.argv[sys.argv.index('--output') + 1], 'w').write({report!r})\n"
    program = f"import sys\n{written}print('no network', file=sys.stderr)\nsys.exit(1)\n"
    (tmp_path / "pip_audit.py").write_text(program)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, str(ROOT / ".ci" / "audit.py")]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert says in done.stdout
