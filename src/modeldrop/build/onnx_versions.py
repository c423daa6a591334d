"""Which onnxruntime reads a graph. Source: onnxruntime's table of compatible ONNX versions."""

_BY_OPSET = {18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22"}
_BY_IR = {9: "1.15", 10: "1.18", 11: "1.22", 12: "1.23"}


def min_onnxruntime(opset: int, ir_version: int) -> str:
    """The oldest onnxruntime release that loads a graph of this opset and IR version."""
    by_opset = _BY_OPSET.get(opset, "1.14" if opset < min(_BY_OPSET) else "1.23")
    by_ir = _BY_IR.get(ir_version, "1.14" if ir_version < min(_BY_IR) else "1.23")
    return max(by_opset, by_ir, key=lambda version: [int(part) for part in version.split(".")])
