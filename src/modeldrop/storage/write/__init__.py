"""Writing to registries in a folder, S3, GCS or Azure Blob. ``open_store`` opens one by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.config import registry_settings
from modeldrop.errors import MissingExtraError, UsageError
from modeldrop.storage.environment import check_address, clean_environment
from modeldrop.storage.errors import unusable_certificates
from modeldrop.storage.s3_address import address_here
from modeldrop.storage.urls import parse_bucket
from modeldrop.util.http import CertificatesError, ca_bundle

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store


def open_store(registry: str, *, carrier: bool = False) -> Store:
    """Open a registry for reading and writing. Nothing is sent before the first method is called.

    Args:
        registry: its URL, its folder, or its name in modeldrop.toml.
        carrier: whether a folder may be on a disk without hard links, which only this process writes now.

    Raises:
        UsageError: no registry is named, it is read-only, or it cannot be one.
        MissingExtraError: the cloud's SDK is not installed.
        RegistryError: half a credential is set, a variable's value cannot be right, or names no usable certificates.
    """
    settings = registry_settings(registry)
    scheme, separator, _ = settings.url.partition("://")
    if not separator:
        from modeldrop.storage.write.folder import FolderStore

        return FolderStore(settings.url, carrier=carrier)
    if scheme == "https":
        raise UsageError(f"{settings.url} is read-only.", "Publish to the bucket behind it: s3://, gs:// or az://.")
    clean_environment(scheme, settings.url)
    check_address(settings.endpoint, "endpoint in modeldrop.toml", settings.url)
    bucket = parse_bucket(settings.url)
    try:
        ca_bundle(address_here(bucket, settings)[0].certificates if scheme == "s3" else "")
    except CertificatesError as error:
        raise unusable_certificates(error) from None
    if scheme == "s3":
        from modeldrop.storage.write.s3.store import S3BucketStore

        return S3BucketStore(bucket, settings)
    if scheme == "gs":
        from modeldrop.storage.write.gcs.store import GCSBucketStore

        return GCSBucketStore(bucket, settings)
    from modeldrop.storage.write.azure.store import AzureContainerStore

    return AzureContainerStore(bucket, settings)


def open_store_or_documents(registry: str) -> Store:
    """As ``open_store``; where the cloud's SDK is not installed, what can be done without it (``documents.py``).

    Raises:
        UsageError, RegistryError: see there.
        MissingExtraError: nothing can be done without it here.
    """
    try:
        return open_store(registry)
    except MissingExtraError as missing:
        from modeldrop.storage.write.documents import DocumentStore, serves

        settings = registry_settings(registry)
        if not serves(settings):
            raise
        return DocumentStore(settings, missing)
