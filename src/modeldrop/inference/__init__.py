"""The self-test's own process: known inputs through onnxruntime, compared with the original's answers.

It is started by ``modeldrop.fetcher.self_test`` and never imported by the fetcher: a graph that crashes this process,
or takes all its memory, takes nothing else along.
"""
