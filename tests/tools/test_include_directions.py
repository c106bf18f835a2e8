#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom (docs/architecture.md, "Code map").

Broken if it fails: a folder reached into one it must not know, for example the translator into the devices or one
device server into another; the process lines would no longer be visible in the source tree.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Longest prefix wins. A folder may always include itself.
MAY_INCLUDE = {
    "protocol/base": [],
    "protocol": ["protocol/base"],
    "translator": ["protocol/base"],
    "accel": ["protocol"],
    "accel/jit": ["accel", "protocol", "translator"],
    "vmm": ["protocol", "accel"],
    "devserver/core": ["protocol"],
    "devserver/block": ["devserver/core", "protocol"],
    "devserver/net": ["devserver/core", "protocol"],
    "devserver/gpu": ["devserver/core", "protocol"],
    "broker": ["protocol"],
    "tools": ["protocol"],
    "tests": [""],
}
# Single files with a reason to differ: (file or folder, header it may include besides).
EXCEPTIONS = set()

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def folder_of(path: str) -> str:
    """The row of MAY_INCLUDE that governs a path, or '' for none."""
    fits = [folder for folder in MAY_INCLUDE if path == folder or path.startswith(folder + "/")]
    return max(fits, key=len, default="")


def allowed(source: str, target: str) -> bool:
    row = folder_of(source)
    own = target.startswith(row + "/") and folder_of(target) == row
    permitted = any(target.startswith(folder + "/" if folder else "") for folder in MAY_INCLUDE[row])
    # 'protocol' in a row means all of protocol/, base included; 'accel' does not include accel/jit.
    if "accel" in MAY_INCLUDE[row] and target.startswith("accel/jit/"):
        permitted = False
    excepted = any(source.startswith(prefix) and target == header for prefix, header in EXCEPTIONS)
    return own or permitted or excepted


def main() -> int:
    bad, seen = [], 0
    for path in sorted(ROOT.rglob("*.[ch]")):
        source = path.relative_to(ROOT).as_posix()
        if not folder_of(source):
            if source.split("/")[0] not in ("docs", "deploy") and not source.startswith(("build", ".")):
                bad.append(f"{source}: no rule names this folder; add it to MAY_INCLUDE")
            continue
        seen += 1
        for header in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if "/" not in header:
                if not (path.parent / header).exists() and not header.endswith(".pb-c.h"):
                    bad.append(f'{source}: "{header}" is neither beside it nor a path from the root')
            elif not allowed(source, header):
                bad.append(f'{source}: must not include "{header}"')
    for line in bad:
        print(line)
    print(f"{seen} files, {len(bad)} bad includes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
