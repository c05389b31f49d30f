"""Known vulnerabilities of the packages that requirements.lock pins, by pip-audit from the database of osv.dev.

Exit status 1 where there is one that is not explained below. Without the database the check is left out, in one
sentence: the network is nobody's fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
SECONDS = 300

EXPLAINED: dict[str, str] = {}
"""By id of a vulnerability: why it does no harm here."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        argv = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip"]
        argv += ["--vulnerability-service", "osv", "--progress-spinner", "off", "--timeout", "15"]
        argv += ["--format", "json", "--output", str(report)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        except subprocess.TimeoutExpired:
            said = [f"no answer within {SECONDS} s"]
        if not report.is_file() or not report.stat().st_size:
            print(f"Known vulnerabilities were not looked up, because their list cannot be had: {said[0][:300]}")
            return 0
        packages = json.loads(report.read_text())["dependencies"]
    found = [(each, one) for each in packages for one in each.get("vulns", []) if one["id"] not in EXPLAINED]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {fixed}.")
    if found:
        print("Renew them with `make lock`, or explain in .ci/audit.py why they do no harm here.")
        return 1
    print(f"No known vulnerability in {len(packages)} packages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
