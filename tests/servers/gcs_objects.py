"""What the small GCS server holds: buckets, objects and unfinished uploads, all changed under one lock."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import google_crc32c

SMALLEST_PART = 5 << 20


class Refusal(Exception):  # noqa: N818 -- it is an answer
    """An answer that is not what was asked for: a status, Google's reason and XML code, and a message."""

    def __init__(self, status: int, reason: str, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code or reason[:1].upper() + reason[1:]


def no_bucket() -> Refusal:
    return Refusal(404, "notFound", "The specified bucket does not exist.", "NoSuchBucket")


def no_object(bucket: str, name: str) -> Refusal:
    return Refusal(404, "notFound", f"No such object: {bucket}/{name}", "NoSuchKey")


def not_met() -> Refusal:
    message = "At least one of the pre-conditions you specified did not hold."
    return Refusal(412, "conditionNotMet", message, "PreconditionFailed")


def unknown(what: str) -> Refusal:
    return Refusal(501, "notImplemented", f"This test server does not know {what}.", "NotImplemented")


@dataclass(frozen=True, slots=True)
class About:
    """What a writer says about an object besides its bytes."""

    content_type: str = "application/octet-stream"
    cache_control: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """An object as it was written at one generation."""

    data: bytes
    about: About
    generation: int
    updated: datetime
    crc32c: str
    md5: str | None
    etag: str

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        """The object as the JSON API describes it."""
        when = self.updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.about.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": when,
            "updated": when,
        }
        if self.md5 is not None:
            found["md5Hash"] = self.md5
        if self.about.cache_control:
            found["cacheControl"] = self.about.cache_control
        if self.about.metadata:
            found["metadata"] = dict(self.about.metadata)
        if self.about.kms_key:
            found["kmsKeyName"] = f"{self.about.kms_key}/cryptoKeyVersions/1"
        return found


@dataclass(frozen=True, slots=True)
class Conditions:
    """Preconditions on the object that is there; generation 0 stands for none."""

    generation: int | None = None
    generation_not: int | None = None
    metageneration: int | None = None

    def check(self, there: Object | None) -> None:
        """Raise a Refusal unless they hold."""
        generation = there.generation if there else 0
        if self.generation is not None and generation != self.generation:
            raise not_met()
        if self.generation_not is not None and generation == self.generation_not:
            raise not_met()
        if self.metageneration is not None and (there is None or self.metageneration != 1):
            raise not_met()


@dataclass(slots=True)
class Multipart:
    """An XML multipart upload."""

    bucket: str
    name: str
    about: About
    started: datetime
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Resumable:
    """A resumable upload: what was asked at its start, and the bytes so far."""

    bucket: str
    name: str
    about: About
    conditions: Conditions
    hashes: Mapping[str, str]
    data: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Bucket:
    """A bucket; ``resource`` holds what was set of its metadata."""

    resource: dict[str, Any]
    objects: dict[str, Object] = field(default_factory=dict)


class Objects:
    """All buckets. Conditions are checked and the write is made under the same lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Multipart] = {}
        self.resumables: dict[str, Resumable] = {}
        self.seconds_between_writes = 0.0
        self._generation = 0
        self._written: dict[tuple[str, str], float] = {}

    def make_bucket(self, name: str, resource: Mapping[str, Any]) -> None:
        with self.lock:
            if name in self.buckets:
                raise Refusal(409, "conflict", "You already own this bucket.", "BucketAlreadyOwnedByYou")
            self.buckets[name] = Bucket(dict(resource))

    def bucket(self, name: str) -> Bucket:
        with self.lock:
            if name not in self.buckets:
                raise no_bucket()
            return self.buckets[name]

    def get(self, bucket: str, name: str, generation: int | None = None) -> Object:
        with self.lock:
            there = self.bucket(bucket).objects.get(name)
        if there is None or generation not in {None, there.generation}:
            raise no_object(bucket, name)
        return there

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        about: About,
        conditions: Conditions,
        hashes: Mapping[str, str],
        *,
        parts: int = 0,
    ) -> Object:
        """Write an object; ``hashes`` are what the writer says of its bytes, ``parts`` how many it came in."""
        crc32c, md5 = check_hashes(data, hashes)
        with self.lock:
            objects = self.bucket(bucket).objects
            self._take_turn(bucket, name)
            conditions.check(objects.get(name))
            self._written[bucket, name] = time.monotonic()
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            etag = base64.b64encode(str(self._generation).encode()).decode()
            written = Object(
                data=data,
                about=about,
                generation=self._generation,
                updated=datetime.now(UTC),
                crc32c=crc32c,
                md5=None if parts else md5,
                etag=f"{hashlib.md5(data).hexdigest()}-{parts}" if parts else etag,
            )
            objects[name] = written
            return written

    def delete(self, bucket: str, name: str, conditions: Conditions, generation: int | None = None) -> None:
        with self.lock:
            self._take_turn(bucket, name)
            there = self.get(bucket, name, generation)
            conditions.check(there)
            self._written[bucket, name] = time.monotonic()
            del self.bucket(bucket).objects[name]

    def _take_turn(self, bucket: str, name: str) -> None:
        """Refuse a write that comes too soon after the last one of the same object."""
        if time.monotonic() - self._written.get((bucket, name), -math.inf) < self.seconds_between_writes:
            message = (
                f"The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, update, "
                "and delete). Please reduce your request rate."
            )
            raise Refusal(429, "rateLimitExceeded", message, "SlowDown")

    def copy(self, source: tuple[str, str], target: tuple[str, str], about: About | None, where: Conditions) -> Object:
        with self.lock:
            there = self.get(*source)
            return self.put(*target, there.data, about or there.about, where, {})

    def listing(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        """At most ``limit`` objects and prefixes whose names come after ``after``."""
        with self.lock:
            names = sorted(self.bucket(bucket).objects, key=str.encode)
            found = dict(self.buckets[bucket].objects)
        entries: list[str] = []
        for name in _folded(names, prefix, delimiter):
            if name.encode() > after.encode():
                if len(entries) == limit:
                    return Listing(entries, found, entries[-1])
                entries.append(name)
        return Listing(entries, found, "")

    def initiate(self, bucket: str, name: str, about: About) -> str:
        with self.lock:
            self.bucket(bucket)
            upload_id = secrets.token_urlsafe(24)
            self.uploads[upload_id] = Multipart(bucket, name, about, datetime.now(UTC))
            return upload_id

    def upload(self, bucket: str, name: str, upload_id: str) -> Multipart:
        with self.lock:
            upload = self.uploads.get(upload_id)
            if upload is None or (upload.bucket, upload.name) != (bucket, name):
                raise Refusal(404, "notFound", "The requested upload was not found.", "NoSuchUpload")
            return upload

    def complete(self, bucket: str, name: str, upload_id: str, wanted: Iterable[tuple[int, str]]) -> Object:
        """Join the parts; like Google's, this replaces whatever is there."""
        with self.lock:
            upload = self.upload(bucket, name, upload_id)
            numbers = []
            for number, etag in wanted:
                if number not in upload.parts or etag.strip('"') != hashlib.md5(upload.parts[number]).hexdigest():
                    raise Refusal(400, "invalid", "One or more of the specified parts was not found.", "InvalidPart")
                numbers.append(number)
            if not numbers or numbers != sorted(set(numbers)):
                raise Refusal(400, "invalid", "The parts are not in order.", "InvalidPartOrder")
            if any(len(upload.parts[number]) < SMALLEST_PART for number in numbers[:-1]):
                raise Refusal(400, "invalid", "A part is smaller than 5 MiB.", "EntityTooSmall")
            data = b"".join(upload.parts[number] for number in numbers)
            written = self.put(bucket, name, data, upload.about, Conditions(), {}, parts=len(numbers))
            del self.uploads[upload_id]
            return written

    def abort(self, bucket: str, name: str, upload_id: str) -> None:
        with self.lock:
            self.upload(bucket, name, upload_id)
            del self.uploads[upload_id]

    def damage(self, bucket: str, name: str) -> None:
        """Flip a bit of an object, as a broken disk would; its checksums are those of the damaged bytes."""
        with self.lock:
            there = self.get(bucket, name)
            data = bytes([there.data[0] ^ 1]) + there.data[1:]
            crc32c, md5 = check_hashes(data, {})
            damaged = replace(there, data=data, crc32c=crc32c, md5=there.md5 and md5)
            self.buckets[bucket].objects[name] = damaged


@dataclass(frozen=True, slots=True)
class Listing:
    """A page: names (prefixes among them), all objects, and the last name if more follow, else ""."""

    entries: list[str]
    found: Mapping[str, Object]
    last: str

    def objects(self) -> Iterator[tuple[str, Object]]:
        return ((name, self.found[name]) for name in self.entries if name in self.found)

    def prefixes(self) -> list[str]:
        return [name for name in self.entries if name not in self.found]


def check_hashes(data: bytes, said: Mapping[str, str]) -> tuple[str, str]:
    """The CRC32C and MD5 of some bytes, in Base64.

    Raises:
        Refusal: they are not what was said.
    """
    crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    for name, value, there in (("crc32c", "CRC32C", crc32c), ("md5", "MD5", md5)):
        if said.get(name, there) != there:
            message = f'Provided {value} hash "{said[name]}" doesn\'t match calculated {value} hash "{there}".'
            raise Refusal(400, "invalid", message, "BadDigest")
    return crc32c, md5


def _folded(names: Iterable[str], prefix: str, delimiter: str) -> Iterator[str]:
    last = None
    for name in names:
        if name.startswith(prefix):
            head, separator, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            folded = prefix + head + separator if separator else name
            if folded != last:
                yield folded
            last = folded
