"""Runs as ``python -m modeldrop.selftest FOLDER GRAPH LIFELINE``, with a JSON request on standard input.

The request: ``output`` (the graph's output to compare), ``classifies``, and ``cases`` (per case ``inputs``: token ids
by graph input; ``values``: the original's output, flattened). LIFELINE is a descriptor that ends when the parent does.
The answer, JSON on standard output: ``metrics`` and ``worst`` (metric to index of a case), or ``failed`` or ``missing``
with a sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

_DTYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool", "tensor(float)": "float32"}
_SHOWN = 300


def main() -> None:
    """Answer one request."""
    folder, graph, lifeline = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    _be_the_first_to_go()
    # Libraries print what they like: only the answer goes to the real standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.read())
    answers.write(json.dumps(answer(folder / graph, request)))
    answers.flush()
    # The libraries take their time to take themselves down; there is nothing left to save.
    os._exit(0)


def answer(graph: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run the cases; what to tell the parent."""
    try:
        import numpy as np
        import onnxruntime

        from modeldrop.selftest.metrics import compare
    except ImportError as error:
        return {"missing": _first_line(error)}
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  onnxruntime's errors have no common class
        return {"failed": f"it does not load: {_first_line(error)}"}
    dtypes = {tensor.name: _DTYPES.get(tensor.type) for tensor in session.get_inputs()}
    expected, answers = [], []
    for case in request["cases"]:
        if set(case["inputs"]) != set(dtypes) or None in dtypes.values():
            return {"failed": f"its graph wants other inputs than the known ones: {', '.join(dtypes)}"}
        inputs = {name: np.array([ids], dtypes[name]) for name, ids in case["inputs"].items()}
        try:
            found = session.run([request["output"]], inputs)[0][0]
        except Exception as error:  # noqa: BLE001
            return {"failed": f"it does not run: {_first_line(error)}"}
        if found.size != len(case["values"]):
            return {"failed": f"it answers {found.size} numbers where the original answers {len(case['values'])}"}
        expected.append(np.array(case["values"], np.float64).reshape(found.shape))
        answers.append(found)
    metrics, worst = compare(expected, answers, classifies=request["classifies"])
    return {"metrics": metrics, "worst": {name: index for name, (index, _) in worst.items()}}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]


def _be_the_first_to_go() -> None:
    """Where memory runs out, the kernel is to take this process and not the service beside it; and leave no core."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_parent(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
