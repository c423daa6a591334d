"""Runs as ``python -m modeldrop.inference FOLDER LIFELINE``, with a JSON request on standard input.

The request: ``graphs`` (path by role), ``task``, ``problem``, ``role`` (of the graph that ``cases`` are for), and
``golden``, as it stands in a manifest. LIFELINE is a descriptor that ends when the parent does.
The answer, JSON on standard output: ``metrics`` and ``worst`` (metric to index of a known input), or ``failed`` or
``missing`` with a sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeldrop.format.golden import GOLDEN
from modeldrop.format.json_fields import Fields
from modeldrop.inference import needs_openvino, open_variant
from modeldrop.util.process import die_with_parent, own_answers
from modeldrop.util.text import first_line


def main() -> None:
    """Answer one request."""
    folder, lifeline = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(lifeline)
    _be_the_first_to_go()
    answers = os.fdopen(own_answers(), "w", encoding="utf-8")
    request = json.loads(sys.stdin.buffer.read())
    answers.write(json.dumps(answer(folder, request)))
    answers.flush()
    # Shutting down the libraries takes time, and nothing is left to save.
    os._exit(0)


def answer(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run the known inputs; what to tell the parent."""
    try:
        if needs_openvino(request["graphs"]):
            import openvino  # noqa: F401  first, for the sentence that names it
        else:
            import onnxruntime  # noqa: F401

        from modeldrop.inference import runs
        from modeldrop.inference.metrics import compare
    except ImportError as error:
        return {"missing": first_line(error)}
    try:
        variant = open_variant(folder, request["graphs"])
    except Exception as error:  # noqa: BLE001  the libraries' errors have no common class
        return {"failed": f"it does not load: {first_line(error)}"}
    known = GOLDEN.read(Fields(request["golden"], "", "golden"))
    role = request["role"]
    known_runs = [runs.from_case(case, known.output, role, variant.dtypes(role)) for case in known.cases]
    known_runs += [runs.from_golden(run) for run in known.chains]
    known_runs += [runs.from_example(example) for example in known.examples]
    expected, answers = [], []
    for run in known_runs:
        for step in run.steps:
            if lacking := variant.lacking(step):
                return {"failed": f"its graph wants other inputs than the known ones: {', '.join(lacking)}"}
        try:
            found = variant.answer(run)
        except Exception as error:  # noqa: BLE001
            return {"failed": f"it does not run: {first_line(error)}"}
        if run.answer.named:
            expected.append(run.answer)
            answers.append(found)
            continue
        values = run.answer.values
        if found.size != values.size:
            return {"failed": f"it answers {found.size} numbers where the original answers {values.size}"}
        expected.append(replace(run.answer, values=values.reshape(found.shape)))
        answers.append(found)
    metrics, worst = compare(request["task"], expected, answers, request["problem"])
    return {"metrics": metrics, "worst": {name: index for name, (index, _) in worst.items()}}


def _be_the_first_to_go() -> None:
    """If memory runs out, let the kernel kill this process and not the service; write no core file."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
