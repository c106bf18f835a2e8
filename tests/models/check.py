#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks one model with spin, exhaustively: check.py MODEL.pml [-DNAME=VALUE...] [--expect-error].

With --expect-error the model must be found wrong: that shows that it can be. Exit status: 0 as expected, 1 not, 77
(skipped) without spin.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


def main():
    model = pathlib.Path(sys.argv[1]).resolve()
    defines = [word for word in sys.argv[2:] if word.startswith("-D")]
    if not shutil.which("spin"):
        print("skipped: spin is not installed")
        return 77
    with tempfile.TemporaryDirectory(prefix="bulkhead-model-") as folder:
        for command in (["spin", *defines, "-a", model],
                        ["cc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", "-o", "pan", "pan.c"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(done.stdout, done.stderr)
                return 1
        output = subprocess.run(["./pan", "-m200000", "-w22"], cwd=folder, capture_output=True, text=True,
                                check=False).stdout
    errors = re.search(r"errors: (\d+)", output)
    complete = "max search depth too small" not in output and "Search not completed" not in output
    states = re.search(r"(\S+) states, stored", output)
    print(f"{model.name} {' '.join(defines)}: {states and states[1]} states, errors: {errors and errors[1]}")
    if "--expect-error" in sys.argv:
        return 0 if errors and errors[1] != "0" else 1
    if not errors or errors[1] != "0" or not complete:
        print(output)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
