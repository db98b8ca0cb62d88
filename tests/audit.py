"""What is known against the versions in requirements.lock, as PyPI's advisories have it: pip-audit, for `make check`.

Where the advisories are out of reach (no network, or an index without them) that is said aloud and is no failure,
unless MMDAEMON_NEED_AUDIT=1: then not knowing fails. A package that is not known there is "not audited", never "fine".
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NEED: Final = "MMDAEMON_NEED_AUDIT"
LONGEST_S: Final = 25.0
LOCK: Final = Path(__file__).resolve().parents[1] / "requirements.lock"


def told(code: int, text: str, error: str, environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit code, and what to say, of what pip-audit answered."""
    try:
        found: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = error.strip().splitlines()[-1] if error.strip() else f"pip-audit ended with {code} and said nothing"
        return _not_audited(why[:300], environ)
    lines = [
        f"audit: {each['name']} {each['version']}: {known['id']}, mended in {', '.join(known['fix_versions'])}"
        for each in found
        for known in each.get("vulns", ())
    ]
    if lines:
        return 1, lines
    if code or not found:
        return _not_audited(f"pip-audit ended with {code}", environ)
    if skipped := [each["name"] for each in found if "skip_reason" in each]:
        return _not_audited(
            f"{len(skipped)} of {len(found)} are not known to it: {', '.join(skipped[:3])} ...", environ
        )
    return 0, [f"audit: nothing is known against the {len(found)} packages of {LOCK.name}"]


def _not_audited(why: str, environ: Mapping[str, str]) -> tuple[int, list[str]]:
    needed = environ.get(NEED, "") not in ("", "0")
    how = f"{NEED} is set, so this fails" if needed else f"{NEED}=1 makes this a failure"
    return int(needed), [f"audit: !!! NOT AUDITED !!! the advisories could not be asked: {why} ({how})"]


def main() -> int:
    """0 where nothing is known, or nothing could be asked and need not be; else 1."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        code, lines = told(ran.returncode, ran.stdout, ran.stderr, os.environ)
    except subprocess.TimeoutExpired:
        code, lines = told(1, "", f"no answer within {LONGEST_S:g} s", os.environ)
    print("\n".join(lines), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
