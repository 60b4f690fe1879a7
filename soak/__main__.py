"""`python -m soak [NAME …]`: every module of this folder, or the named ones, one after the other; ends with 1 where one fails."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(known)} (all)")
    chosen = parser.parse_args().name or known
    if unknown := set(chosen) - set(known):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = [
        one for one in chosen if subprocess.run([sys.executable, "-m", f"soak.{one}"], cwd=HERE.parent).returncode
    ]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} held" + (f"; not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
