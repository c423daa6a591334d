"""The XML API of the GCS server."""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.servers.gcs_documents import child_text, media_headers, page_token, parse_page_token
from tests.servers.gcs_exchange import Exchange
from tests.servers.gcs_objects import About, Conditions, check_hashes, unknown

_XML = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class XMLExchange(Exchange):
    """A request to the XML API, and its answer."""

    def _xml_api(self, bucket: str, name: str) -> None:
        if not name:
            self._xml_bucket(bucket)
        elif "uploads" in self.query or "uploadId" in self.query:
            self._xml_multipart(bucket, name)
        elif self.command in {"GET", "HEAD"}:
            self._allow("generation")
            wanted = int(self.query["generation"]) if "generation" in self.query else None
            there = self.server.objects.get(bucket, name, wanted)
            self._media(there)
        elif self.command == "PUT":
            self._xml_put(bucket, name)
        elif self.command == "DELETE":
            self._allow("generation")
            self.server.objects.delete(bucket, name, self._xml_conditions())
            self._send(204, b"", {})
        else:
            raise unknown(f"{self.command} {self.path_only}")

    def _xml_put(self, bucket: str, name: str) -> None:
        self._allow()
        objects = self.server.objects
        source = self.headers.get("x-goog-copy-source")
        if source is None:
            hashes = self._hash_header()
            made = objects.put(bucket, name, self.body, self._xml_about(), self._xml_conditions(), hashes)
            self._send(200, b"", media_headers(made))
        else:
            if self.headers.get("x-goog-metadata-directive", "COPY") != "COPY":
                raise unknown("this x-goog-metadata-directive")
            source_bucket, _, source_name = unquote(source).lstrip("/").partition("/")
            copied = objects.copy((source_bucket, source_name), (bucket, name), None, self._xml_conditions())
            result = f"<ETag>&quot;{copied.etag}&quot;</ETag>"
            self._xml(f"<CopyObjectResult {_XML}>{result}</CopyObjectResult>", headers=media_headers(copied))

    def _xml_multipart(self, bucket: str, name: str) -> None:
        self._allow("uploads", "uploadId", "partNumber")
        if self.headers.get("x-goog-if-generation-match") is not None:
            raise unknown("conditions on multipart uploads, and neither does Google's service")
        objects = self.server.objects
        upload_id = self.query.get("uploadId", "")
        match (self.command, "uploads" in self.query, "partNumber" in self.query):
            case ("POST", True, False):
                started = objects.initiate(bucket, name, self._xml_about())
                where = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{started}</UploadId>"
                self._xml(f"<InitiateMultipartUploadResult {_XML}>{where}</InitiateMultipartUploadResult>")
            case ("PUT", False, True):
                upload = objects.upload(bucket, name, upload_id)
                crc32c, md5 = check_hashes(self.body, self._hash_header())
                upload.parts[int(self.query["partNumber"])] = self.body
                etag = binascii.hexlify(base64.b64decode(md5)).decode()
                self._send(200, b"", {"ETag": f'"{etag}"', "x-goog-hash": f"crc32c={crc32c},md5={md5}"})
            case ("POST", False, False):
                parts = [
                    (int(child_text(part, "PartNumber")), child_text(part, "ETag")) for part in ET.fromstring(self.body)
                ]
                made = objects.complete(bucket, name, upload_id, parts)
                if self.flaw == "spoil":
                    objects.damage(bucket, name)
                result = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><ETag>&quot;{made.etag}&quot;</ETag>"
                self._xml(f"<CompleteMultipartUploadResult {_XML}>{result}</CompleteMultipartUploadResult>")
            case ("DELETE", False, False):
                objects.abort(bucket, name, upload_id)
                self._send(204, b"", {})
            case _:
                raise unknown(f"{self.command} {self.path_only}")

    def _xml_bucket(self, bucket: str) -> None:
        if self.command == "GET" and "uploads" in self.query:
            self._xml_uploads(bucket)
        elif self.command == "GET" and self.query.get("list-type") == "2":
            self._xml_list(bucket)
        else:
            raise unknown(f"{self.command} {self.path}")

    def _xml_list(self, bucket: str) -> None:
        self._allow("list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after")
        prefix = self.query.get("prefix", "")
        after = parse_page_token(self.query.get("continuation-token", "")) or self.query.get("start-after", "")
        limit = min(self.server.most, int(self.query.get("max-keys", 1000)))
        page = self.server.objects.listing(bucket, prefix, self.query.get("delimiter", ""), after, limit)
        rows = [f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page.entries)}</KeyCount>"]
        rows.append(f"<IsTruncated>{str(bool(page.last)).lower()}</IsTruncated>")
        if page.last:
            rows.append(f"<NextContinuationToken>{page_token(page.last)}</NextContinuationToken>")
        for name, there in page.objects():
            when = there.updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><Generation>{there.generation}</Generation>"
                f"<MetaGeneration>1</MetaGeneration><LastModified>{when}</LastModified>"
                f"<ETag>&quot;{there.etag}&quot;</ETag><Size>{len(there.data)}</Size></Contents>"
            )
        rows += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in page.prefixes()]
        self._xml(f"<ListBucketResult {_XML}>{''.join(rows)}</ListBucketResult>")

    def _xml_uploads(self, bucket: str) -> None:
        self._allow("uploads", "prefix", "max-uploads", "key-marker", "upload-id-marker")
        objects = self.server.objects
        objects.bucket(bucket)
        marker = (self.query.get("key-marker", ""), self.query.get("upload-id-marker", ""))
        limit = min(self.server.most, int(self.query.get("max-uploads", 1000)))
        with objects.lock:
            found = sorted(
                (upload.name, upload_id, upload.started)
                for upload_id, upload in objects.uploads.items()
                if upload.bucket == bucket and upload.name.startswith(self.query.get("prefix", ""))
            )
        rest = [entry for entry in found if entry[:2] > marker]
        page, more = rest[:limit], len(rest) > limit
        rows = [f"<Bucket>{bucket}</Bucket><IsTruncated>{str(more).lower()}</IsTruncated>"]
        if more:
            rows.append(f"<NextKeyMarker>{escape(page[-1][0])}</NextKeyMarker>")
            rows.append(f"<NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>")
        for name, upload_id, started in page:
            when = started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            rows.append(
                f"<Upload><Key>{escape(name)}</Key><UploadId>{upload_id}</UploadId><Initiated>{when}</Initiated></Upload>"
            )
        self._xml(f"<ListMultipartUploadsResult {_XML}>{''.join(rows)}</ListMultipartUploadsResult>")

    def _xml_about(self) -> About:
        metadata = {
            name[len("x-goog-meta-") :].lower(): value.encode("latin-1").decode("utf-8")
            for name, value in self.headers.items()
            if name.lower().startswith("x-goog-meta-")
        }
        return About(
            self.headers.get("Content-Type") or "application/octet-stream",
            self.headers.get("Cache-Control", ""),
            metadata,
            self.headers.get("x-goog-encryption-kms-key-name", ""),
        )

    def _xml_conditions(self) -> Conditions:
        generation = self.headers.get("x-goog-if-generation-match")
        metageneration = self.headers.get("x-goog-if-metageneration-match")
        return Conditions(
            generation=None if generation is None else int(generation),
            metageneration=None if metageneration is None else int(metageneration),
        )
