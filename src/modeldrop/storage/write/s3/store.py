"""A bucket on Amazon S3, or on a service that speaks its protocol, as a registry.

Every write is conditional (``If-None-Match: *``, ``If-Match``) and carries a SHA-256 that the service checks;
where a service offers no checksum the ETag is compared, and where that is no MD5 the object is read back.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from modeldrop.errors import (
    ConflictError,
    IntegrityError,
    MissingExtraError,
    ModeldropError,
    NotFoundError,
    RegistryError,
)
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.sdk_answers import fields_expected
from modeldrop.storage.write import headers, multipart
from modeldrop.storage.write.interruption import freed_on_failure
from modeldrop.storage.write.multipart import PartBody
from modeldrop.storage.write.store import (
    MAX_DOCUMENT,
    ListedObject,
    StoredObject,
    UnfinishedUpload,
    not_written,
    one_at_a_time,
    too_large,
)

try:
    from modeldrop.storage.write.s3 import errors as s3_errors
    from modeldrop.storage.write.s3.connection import S3Connection
    from modeldrop.storage.write.s3.unsupported import NotImplementedByServiceError
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"boto3", "botocore"}:
        raise
    raise MissingExtraError("s3:// needs boto3 for writing.", "pip install 'modeldrop[s3]'") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from modeldrop.config import RegistrySettings
    from modeldrop.format.manifest import File
    from modeldrop.storage.s3_address import S3Address
    from modeldrop.storage.urls import Bucket
    from modeldrop.storage.write.multipart import Part

SINGLE = 16 << 20
"""Bytes of a file at most that are sent in one request, from memory."""

MIN_PART = 16 << 20
"""Bytes at least in a part. S3 refuses less than 5 MiB."""

LARGE_PART = 64 << 20
"""Bytes in a part of a file of 1 GiB or more."""

IN_FLIGHT = 8
"""Parts sent, or ranges read, at a time."""

_RANGE = 16 << 20
_CHUNK = 1 << 20
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


@dataclass(frozen=True, slots=True)
class _Sent:
    """A part that arrived.

    Attributes:
        number: counts from 1.
        etag: what the service calls it.
        sha256: its digest, b"" where the service knows no checksums.
        proven: the service said that it arrived as it was, by that digest or by an MD5 as the ETag.
    """

    number: int
    etag: str
    sha256: bytes
    proven: bool

    def listed(self) -> dict[str, Any]:
        """How the request to put the parts together names it."""
        checksum = {"ChecksumSHA256": _base64(self.sha256)} if self.sha256 else {}
        return {"PartNumber": self.number, "ETag": self.etag, **checksum}


class S3BucketStore:
    """Objects in a bucket. See ``Store`` for what the methods promise.

    Nothing is sent, and nobody signs in, before the first method is called.
    """

    part_size = SINGLE

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self.url = bucket.url
        self.bucket = bucket
        self.settings = settings
        self._connection = S3Connection(bucket, settings)
        self._unquoted = False
        self._new_object_options = _new_object_options(settings)

    @property
    def address(self) -> S3Address:
        """Where the bucket is asked."""
        return self._connection.address

    @property
    def client(self) -> Any:
        """boto3's S3 client, signed in."""
        return self._connection.client

    def get(self, key: str) -> StoredObject | None:
        def read() -> StoredObject:
            reply = self.client.get_object(Bucket=self.bucket.name, Key=self._key(key))
            with contextlib.closing(reply["Body"]) as body:
                if reply["ContentLength"] > MAX_DOCUMENT:
                    raise too_large(f"{self.url}/{key}", MAX_DOCUMENT)
                return StoredObject(body.read(MAX_DOCUMENT + 1), reply["ETag"])

        try:
            return self._connection.call("read", key, read)
        except NotFoundError:
            return None

    def exists(self, key: str) -> bool:
        # One byte and not HEAD, whose refusals have no body: no such bucket would look like no such object.
        def read() -> None:
            self.client.get_object(Bucket=self.bucket.name, Key=self._key(key), Range="bytes=0-0")["Body"].close()

        try:
            self._connection.call("read", key, read)
        except NotFoundError:
            return False
        except s3_errors.OutOfRangeError:
            return True  # it is empty
        return True

    def names(self, prefix: str) -> list[str]:
        start = self._folder(prefix)
        found: set[str] = set()
        for page in self._pages(prefix, Delimiter="/"):
            found.update(entry["Key"][len(start) :] for entry in page.get("Contents", ()))
            found.update(entry["Prefix"][len(start) : -1] for entry in page.get("CommonPrefixes", ()))
        return sorted(found - {""})

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        for page in self._pages(prefix):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # an empty object that the console calls a folder
                    key = entry["Key"][len(self.bucket.prefix) :]
                    yield ListedObject(key, entry["Size"], entry["LastModified"].timestamp(), entry["ETag"].strip('"'))

    def create(self, key: str, data: bytes) -> None:
        reply = self._put(key, data, IfNoneMatch="*")
        if not self._is_stored(key, data, reply):
            raise self._damaged(key)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        if previous is None:
            self.create(key, data)
            return
        try:
            reply = self._put_over(key, data, previous)
        except NotFoundError:
            raise ConflictError(f"{key} was removed by somebody else meanwhile.", "Run it again.") from None
        if not self._is_stored(key, data, reply):
            # It is not removed: readers ask for it, and whoever repairs it needs its tag to swap.
            raise _wrong_bytes(f"{self.url}/{key}", "It is still there.")

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        if file.size > SINGLE:
            self._upload_parts(key, path, file, piece_size, progress)
            return
        data = multipart.read_whole(path, file)
        digest = hashlib.sha256(data).digest()
        try:
            reply = self._put(key, data, large=True, IfNoneMatch="*")
        except ConflictError:
            if not self._holds(key, file, {_base64(digest)}, {_md5(data)}):
                raise
        else:
            if not _confirmed(reply, data, digest) and self._read_back(key) != (file.size, file.sha256):
                raise self._damaged(key)
        progress(file.size)

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        try:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise not_written(path, error) from error
        try:
            self._download(key, path, target, progress)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(target)

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFoundError):
            self._connection.object_request("delete", "delete_object", key)

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        found: list[UnfinishedUpload] = []
        arguments = {"Bucket": self.bucket.name, "Prefix": self._folder(prefix)}
        while True:
            try:
                page = self._connection.call("list", prefix, lambda: self.client.list_multipart_uploads(**arguments))
            except NotImplementedByServiceError:
                return found  # it cannot be asked; what it has, only its own rules can remove
            for entry in page.get("Uploads", ()):
                key = entry["Key"][len(self.bucket.prefix) :]
                found.append(UnfinishedUpload(key, entry["UploadId"], entry["Initiated"].timestamp()))
            if not page.get("IsTruncated"):
                return found
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
            if markers.items() <= arguments.items():
                raise storage_errors.endless(self.url, prefix)
            arguments.update(markers)

    def abort(self, upload: UnfinishedUpload) -> None:
        with contextlib.suppress(NotFoundError):
            self._connection.object_request("delete", "abort_multipart_upload", upload.key, UploadId=upload.id)

    def begin_parts(self, key: str) -> UnfinishedUpload:
        """Begin an upload in parts that is to be aborted: nothing is sent of it."""
        return self._begin(key)[0]

    def check_writable(self, need: int) -> None:
        # A listing, because its refusals say what is wrong; those of HEAD have no body.
        self._connection.call(
            "list",
            "",
            lambda: self.client.list_objects_v2(Bucket=self.bucket.name, Prefix=self.bucket.prefix, MaxKeys=1),
        )

    def _key(self, key: str) -> str:
        return f"{self.bucket.prefix}{key}"

    def _folder(self, prefix: str) -> str:
        return f"{self._key(prefix)}/" if prefix else self.bucket.prefix

    def _pages(self, prefix: str, **arguments: str) -> Iterator[Any]:
        arguments |= {"Bucket": self.bucket.name, "Prefix": self._folder(prefix)}
        while True:
            page = self._connection.call("list", prefix, lambda: self.client.list_objects_v2(**arguments))
            yield page
            if not page.get("IsTruncated"):
                return
            if page["NextContinuationToken"] == arguments.get("ContinuationToken"):
                raise storage_errors.endless(self.url, prefix)
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def _put(self, key: str, data: bytes, *, large: bool = False, **condition: str) -> Any:
        digest = _base64(hashlib.sha256(data).digest())
        return self._connection.object_request(
            "write",
            "put_object",
            key,
            large=large,
            Body=data,
            ChecksumSHA256=digest,
            **_content_headers(key),
            **self._new_object_options,
            **condition,
        )

    def _put_over(self, key: str, data: bytes, tag: str) -> Any:
        """Write a document on the condition that the object still has this tag.

        HTTP and Amazon want an ETag in its quotes. Ceph gives it with them and honours only the bare one: it
        refuses a condition that holds. So after a refusal, if the object still has the very same tag, the write
        is tried once more with the bare one; it stays conditional, and a bare tag that worked is kept to.
        """
        bare = tag.strip('"')
        if self._unquoted:
            return self._put(key, data, IfMatch=bare)
        try:
            return self._put(key, data, IfMatch=tag)
        except ConflictError:
            present = None if bare == tag else self._head(key)
            if present is None or present["ETag"] != tag:
                raise
        reply = self._put(key, data, IfMatch=bare)
        self._unquoted = True
        return reply

    def _head(self, key: str) -> Any:
        """What the service says about an object, None if there is none."""
        try:
            return self._connection.object_request("read", "head_object", key, ChecksumMode="ENABLED")
        except NotFoundError:
            return None
        except RegistryError:
            self.exists(key)  # a refused HEAD has no body; the same refusal of GET says why
            raise

    def _is_stored(self, key: str, data: bytes, reply: Any) -> bool:
        """Whether a document that was just written is there as it was meant, or already another writer's."""
        if _confirmed(reply, data, hashlib.sha256(data).digest()):
            return True
        stored = self.get(key)
        return stored is None or stored.tag != reply["ETag"] or stored.data == data

    def _begin(self, key: str) -> tuple[UnfinishedUpload, bool]:
        """Begin an upload in parts; whether the service checks SHA-256s."""
        begun = self._connection.object_request(
            "write",
            "create_multipart_upload",
            key,
            large=True,
            ChecksumAlgorithm="SHA256",
            **_content_headers(key),
            **self._new_object_options,
        )
        return UnfinishedUpload(key, begun["UploadId"], 0), begun.get("ChecksumAlgorithm") == "SHA256"

    def _upload_parts(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        # Ceph, for one, ignores the condition when the parts are put together. Only the owner of the claim on this
        # version writes here, so that looking first is enough; and what is there need not be sent again.
        if self._head(key) is not None:
            if not self._holds(key, file, set(), set()):
                raise storage_errors.taken(key)
            progress(file.size)
            return
        report = one_at_a_time(progress)

        def send(part: Part) -> _Sent:
            sent = self._send(upload, PartBody(path, file, piece_size, part), checksums=checksums)
            report(part.length)
            return sent

        parts = multipart.split_parts(file, piece_size, MIN_PART, LARGE_PART)
        with freed_on_failure(lambda: self._begin(key), lambda begun: self.abort(begun[0])) as (upload, checksums):
            sent = multipart.send_all(parts, send, in_flight=IN_FLIGHT)
            self._complete(upload, file, sent)

    def _send(self, upload: UnfinishedUpload, body: PartBody, *, checksums: bool) -> _Sent:
        """Send a part with its SHA-256 or, to a service that knows no checksums, with the MD5 that it must have."""
        digest = hashlib.sha256() if checksums else hashlib.md5(usedforsecurity=False)
        body.verify(digest.update)
        proof = {"ChecksumSHA256" if checksums else "ContentMD5": _base64(digest.digest())}
        with body.sending():
            reply = self._connection.object_request(
                "write",
                "upload_part",
                upload.key,
                large=True,
                UploadId=upload.id,
                PartNumber=body.part.number,
                Body=body,
                **proof,
            )
        told = reply.get("ChecksumSHA256")
        md5 = digest
        if checksums and not told:
            md5 = hashlib.md5(usedforsecurity=False)
            body.verify(md5.update)
        proven = told == proof.get("ChecksumSHA256") if told else reply["ETag"].strip('"') == md5.hexdigest()
        return _Sent(body.part.number, reply["ETag"], digest.digest() if checksums else b"", proven)

    def _complete(self, upload: UnfinishedUpload, file: File, sent: Sequence[_Sent]) -> None:
        """Make the object of its multipart, and check it.

        The composite checksum is the digest of the parts' digests. Services that know no checksums have an
        ETag that is made alike of the parts' MD5s, which are their ETags.
        """
        count = len(sent)
        composite = _base64(hashlib.sha256(b"".join(part.sha256 for part in sent)).digest())
        checksums = {composite, f"{composite}-{count}"}
        md5s = [_MD5.fullmatch(part.etag) for part in sent]
        etags: set[str] = set()
        if all(md5s):
            joined = b"".join(bytes.fromhex(md5[1]) for md5 in md5s if md5)
            etags = {f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{count}"}
        if not all(part.proven for part in sent):
            checksums = etags = set()  # they would only say that the parts were put together
        try:
            self._connection.object_request(
                "write",
                "complete_multipart_upload",
                upload.key,
                large=True,
                UploadId=upload.id,
                IfNoneMatch="*",
                MultipartUpload={"Parts": [part.listed() for part in sent]},
            )
        except (ConflictError, NotFoundError, RegistryError) as error:
            # The reply may be lost and the object there; a second try then finds neither the upload nor room.
            with contextlib.suppress(RegistryError):
                if self._holds(upload.key, file, checksums, etags):
                    self.abort(upload)  # where the object came from an earlier upload of the same file
                    return
            if isinstance(error, NotFoundError):
                raise RegistryError(
                    f"The upload of {self.url}/{upload.key} was given up by somebody else.",
                    "A lifecycle rule or a prune was too quick. Run the same command again.",
                ) from None
            raise
        if not self._holds(upload.key, file, checksums, etags):
            raise self._damaged(upload.key)

    def _holds(self, key: str, file: File, checksums: set[str], etags: set[str]) -> bool:
        """Whether an object is this file: by what the service says of it, else by reading it back."""
        present = self._head(key)
        if present is None or present["ContentLength"] != file.size:
            return False
        checksum = present.get("ChecksumSHA256")
        if checksum is not None and checksum in checksums:
            return True
        if present["ETag"].strip('"') in etags:
            return True
        return self._read_back(key) == (file.size, file.sha256)

    def _read_back(self, key: str) -> tuple[int, str]:
        def read() -> tuple[int, str]:
            digest = hashlib.sha256()
            size = 0
            reply = self.client.get_object(Bucket=self.bucket.name, Key=self._key(key))
            with contextlib.closing(reply["Body"]) as body:
                while chunk := body.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
            return size, digest.hexdigest()

        return self._connection.call("read", key, read)

    def _damaged(self, key: str) -> IntegrityError:
        """Remove what arrived wrong, and say so. Nobody replaces what he cannot read."""
        removed = "It was removed again."
        try:
            self.delete(key)
        except ModeldropError:
            removed = "It could not be removed."
        return _wrong_bytes(f"{self.url}/{key}", removed)

    def _download(self, key: str, path: Path, target: int, progress: Callable[[int], None]) -> None:
        report = one_at_a_time(progress)

        def read(start: int, end: int) -> int:
            """Copy a range, going on where a broken connection left off; return the object's size."""
            done = start
            size = 0

            def copy() -> None:
                nonlocal done, size
                if done == end:
                    return
                reply = self.client.get_object(
                    Bucket=self.bucket.name, Key=self._key(key), Range=f"bytes={done}-{end - 1}"
                )
                with contextlib.closing(reply["Body"]) as body:
                    with fields_expected():
                        size = int(reply["ContentRange"].rpartition("/")[2])
                    while chunk := body.read(min(_CHUNK, end - done)):
                        _write_all(path, target, chunk, done)
                        done += len(chunk)
                        report(len(chunk))

            self._connection.call("read", key, copy)
            return size

        try:
            size = read(0, _RANGE)
        except s3_errors.OutOfRangeError:
            return  # it is empty
        rest = [
            multipart.Part(number, start, min(_RANGE, size - start))
            for number, start in enumerate(range(_RANGE, size, _RANGE), 1)
        ]
        if rest:
            multipart.send_all(rest, lambda part: read(part.start, part.start + part.length), in_flight=IN_FLIGHT)


def _new_object_options(settings: RegistrySettings) -> dict[str, str]:
    """What every new object is given besides its bytes."""
    options = {
        "ServerSideEncryption": settings.encryption or ("aws:kms" if settings.encryption_key else ""),
        "SSEKMSKeyId": settings.encryption_key,
        "ACL": settings.acl,
        "Tagging": urlencode(dict(settings.tags)),
    }
    return {name: value for name, value in options.items() if value}


def _content_headers(key: str) -> dict[str, str]:
    return {"ContentType": headers.content_type(key), "CacheControl": headers.cache_control(key)}


def _confirmed(reply: Any, data: bytes, digest: bytes) -> bool:
    """Whether the answer to a write says that these bytes arrived."""
    if reply.get("ChecksumSHA256"):
        return bool(reply["ChecksumSHA256"] == _base64(digest))
    return bool(reply.get("ETag", "").strip('"') == _md5(data))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _write_all(path: Path, target: int, data: bytes, offset: int) -> None:
    try:
        while data:
            written = os.pwrite(target, data, offset)
            data, offset = data[written:], offset + written
    except OSError as error:
        raise not_written(path, error) from error


def _wrong_bytes(where: str, removed: str) -> IntegrityError:
    return IntegrityError(
        f"{where} does not hold what was sent. {removed}",
        "Something between this machine and the service changes bytes. Run the same command again.",
    )
