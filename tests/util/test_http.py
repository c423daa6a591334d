from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trustme

from modeldrop.util import http

PROXY = "http://proxy.acme.dev:3128"
PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"]
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "IDENTITY_ENDPOINT", "GCE_METADATA_HOST"):
        names += [name, name.lower()]
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "entry", "direct"),
    [
        ("https://s3.acme.dev/b", "acme.dev", True),
        ("https://s3.acme.dev/b", "*.acme.dev", True),
        ("https://acme.dev/b", ".acme.dev", True),
        ("https://notacme.dev/b", "acme.dev", False),
        ("https://S3.ACME.dev./b", "s3.acme.dev", True),
        ("https://s3.acme.dev/b", "s3.acme.dev:443", True),
        ("http://s3.acme.dev/b", "s3.acme.dev:443", False),
        ("https://[fd00::1]:9000/b", "[fd00::1]:9000", True),
        ("https://[fd00::1]:9000/b", "[fd00::1]:9001", False),
        ("https://[fd00::1]/b", "fd00::1", True),
        ("https://[fd00::1]/b", "fd00::/8", True),
        ("https://10.0.3.4/b", "10.0.3.4/16", True),
        ("https://10.0.3.4/b", "no/network", False),
        ("https://10.0.3.4/b", "example.com 10.0.0.0/8", True),
    ],
)
def test_entries_of_no_proxy(url: str, entry: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.acme.dev:3128")
    monkeypatch.setenv("NO_PROXY", entry)
    assert http.proxy_for(url) == ("" if direct else PROXY)


def test_no_proxy_leads_to_metadata_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost:4141/token")
    monkeypatch.setenv("GCE_METADATA_HOST", "metadata.acme.dev")
    for url in ("http://169.254.169.254/", "http://metadata.acme.dev/x", "http://localhost:4141/token"):
        assert http.proxy_for(url) == ""
    assert http.proxy_for("http://localhost:4142/") == PROXY


def test_exclusions_for_a_client_that_knows_no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://s3.acme.dev:9000"
    assert http.proxy_and_excludes(url) == ("", "")
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "acme.dev:9001,sts.acme.dev:443,.corp")
    proxy, excludes = http.proxy_and_excludes(url)
    assert (proxy, excludes.split(",")[-2:]) == (PROXY, ["sts.acme.dev", "corp"])
    assert "acme.dev" not in excludes.split(",")
    monkeypatch.setenv("NO_PROXY", "acme.dev:9000")
    assert http.proxy_and_excludes(url)[1].endswith(",s3.acme.dev")
    monkeypatch.setenv("https_proxy", "")
    assert http.proxy_and_excludes(url) == (PROXY, "*,0.0.0.0/0,::/0")


def test_one_bundle_of_all_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    first.write_bytes(PEM)
    second.write_bytes(PEM + b"second")
    monkeypatch.setenv("SSL_CERT_FILE", str(first))
    assert http.ca_bundle() == str(first)
    assert http.added_certificates() == ""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(first))
    assert http.ca_bundle() == str(first)
    assert http.added_certificates() == ""  # obstore reads SSL_CERT_FILE itself
    merged = http.ca_bundle(str(second))
    assert Path(merged).read_bytes() == PEM + b"\n" + PEM + b"second"
    assert http.ca_bundle(str(second)) == merged
    assert http.added_certificates(str(second)) == (PEM + b"second").decode()
    with pytest.raises(http.CertificatesError, match=r"ca_bundle of the AWS profile names .*/third.pem, which cannot"):
        http.ca_bundle(str(tmp_path / "third.pem"))


MERGES = "from modeldrop.util import http; import os; print(http.ca_bundle(), flush=True); os._exit(0)"


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Two variables name a file each: what both hold, as one file has it."""
    for name in http.CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    contents = []
    for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        path = tmp_path / f"{variable}.pem"
        trustme.CA().cert_pem.write_to_path(str(path))
        monkeypatch.setenv(variable, str(path))
        contents.append(path.read_bytes())
    return b"\n".join(contents)


def test_all_processes_of_a_user_share_what_was_merged(
    two_files: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing is left behind by each that ends without cleaning up, as ``modeldrop fetch`` does."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    command = [sys.executable, "-c", MERGES]
    said = {subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)}
    (path,) = folder.iterdir()
    assert said == {f"{path}\n"}
    assert path.read_bytes() == two_files
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(two_files)
    for forged in ("other bytes", "writable", "a link"):
        if forged == "other bytes":
            path.write_bytes(b"-----BEGIN CERTIFICATE-----")
        elif forged == "writable":
            path.chmod(0o666)
        else:
            path.unlink()
            path.symlink_to(elsewhere)
        subprocess.run(command, check=True)
        assert (path.read_bytes(), path.stat().st_mode & 0o777, path.is_symlink()) == (two_files, 0o600, False), forged


def test_what_was_merged_and_cleaned_up_is_merged_again(
    two_files: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    merged = Path(http.ca_bundle())
    merged.unlink()  # as systemd-tmpfiles does after ten days
    assert http.ca_bundle() == str(merged)
    assert merged.read_bytes() == two_files


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a temporary folder")
def test_where_nothing_can_be_written_it_is_kept_in_memory(
    two_files: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose root is read-only, without a volume at /tmp."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    path = http.ca_bundle()
    assert Path(path).read_bytes() == two_files
    assert http.ca_bundle() == path
    assert len(http.client_tls(path).get_ca_certs()) == 2
    os.close(int(Path(path).name))
    with monkeypatch.context() as patch:
        patch.delattr(os, "memfd_create")
        with pytest.raises(http.CertificatesError, match="set TMPDIR"):
            http.ca_bundle()


def test_certificates_are_read_once_for_all_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "ca.pem", list[str]()
    made = ssl.create_default_context

    def counted(*, cafile: str) -> ssl.SSLContext:
        read.append(cafile)
        return made(cafile=cafile)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    for _ in range(2):  # a file that is replaced counts from then on
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "new.pem"))
        (tmp_path / "new.pem").replace(file)
        for port in (1, 2):
            http.connect(f"https://127.0.0.1:{port}/", 1)
            http.opener(f"https://127.0.0.1:{port}/")
    assert read == [str(file)] * 2
