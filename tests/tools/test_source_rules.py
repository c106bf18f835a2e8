#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules for every source file that a machine can check.

Broken if it fails: a file without a licence line, a line that does not fit, a tab in C, or a leftover note to self.
"""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = 160  # .clang-format breaks code at 110; rows of test tables may stand out
SOURCES = {".c", ".h", ".py", ".sh", ".proto"}
NOTES_TO_SELF = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK:")


def files():
    """Every file of the checkout, build folders apart."""
    for top in sorted(ROOT.iterdir()):
        if top.name == ".git" or top.name.startswith("build"):
            continue
        yield from (path for path in sorted(top.rglob("*") if top.is_dir() else [top]) if path.is_file())


def is_source(path: pathlib.Path) -> bool:
    if path.suffix in SOURCES:
        return True
    with open(path, "rb") as stream:
        return not path.suffix and stream.read(2) == b"#!"


def main() -> int:
    bad, seen = [], 0
    for path in files():
        if not is_source(path):
            continue
        seen += 1
        name = path.relative_to(ROOT)
        text = path.read_text(encoding="utf-8")
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.split("\n")[:3]):
            bad.append(f"{name}:1: no SPDX-License-Identifier line")
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > COLUMNS:
                bad.append(f"{name}:{number}: {len(line)} columns (at most {COLUMNS})")
            if "\t" in line and path.suffix in (".c", ".h"):
                bad.append(f"{name}:{number}: a tab")
            if any(note in line for note in NOTES_TO_SELF):
                bad.append(f"{name}:{number}: a note to self; do it or open an issue")
    for line in bad:
        print(line)
    print(f"{seen} files, {len(bad)} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
