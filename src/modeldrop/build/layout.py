"""Where the graphs are in a version: the names that the ecosystem looks for."""

MODEL_PATHS = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}
"""Path of a variant's graph. Always in ``onnx/``: sentence-transformers does not find it elsewhere."""
