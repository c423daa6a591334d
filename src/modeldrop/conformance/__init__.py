"""What modeldrop needs of a store, as checks that anybody can run against a bucket of their own.

``modeldrop doctor s3://acme-models --conformance``, or with pytest
``pytest -p modeldrop.conformance.plugin --pyargs modeldrop.conformance --registry s3://acme-models``.
"""
