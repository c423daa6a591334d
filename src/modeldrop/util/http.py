"""Which certificates are trusted and which proxy is used: one rule for every client of HTTP in this package.

Certificates: those that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name, else the operating system's; besides them those
that ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` and ``AWS_CA_BUNDLE`` name. Proxies: ``HTTPS_PROXY``, ``HTTP_PROXY``,
``ALL_PROXY`` and ``NO_PROXY``, in small letters too, which win. docs/storage.md has the details.

Each library would read these variables in a way of its own. So they are given what this module decides, and a
bucket that can be published to can also be fetched from. A fetch of files that are on the disk already imports this
module: heavy imports are inside the functions that need them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPConnection
    from ssl import SSLContext
    from urllib.request import OpenerDirector

_BASE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_ADDED_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
CERTIFICATE_VARIABLES = (*_BASE_VARIABLES, *_ADDED_VARIABLES)
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine without the package, macOS
)
_PEM = b"-----BEGIN CERTIFICATE-----"
REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
PORTS = {"http": 80, "https": 443}
"""The port of an address that names none."""

# No proxy leads to the metadata services of a machine or container: they are at fixed addresses, or at these.
_METADATA_HOSTS = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "metadata.google.internal")
_METADATA_VARIABLES = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_METADATA_ENDPOINT",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "IDENTITY_ENDPOINT",
)
_PROXY_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")
NOWHERE = "http://127.0.0.1:0"
"""Nothing ever listens there."""

_EVERYTHING = "*,0.0.0.0/0,::/0"  # obstore takes "*" for names alone
CA_AS_SERVER = "it belongs to a CA, and a server needs one with basicConstraints=CA:FALSE"
"""Why a certificate is refused that OpenSSL accepts, and so the SDKs would, but rustls and so the fetcher does not."""
_merged: dict[bytes, str] = {}
_contexts: dict[tuple[object, ...], SSLContext] = {}
_ca_names: dict[bytes, frozenset[str]] = {}


class CertificatesError(ValueError):
    """A variable names no usable certificates."""


def added_certificates(also: str = "") -> str:
    """The certificates to trust besides those of SSL_CERT_FILE and SSL_CERT_DIR, or the system's, as PEM; or "".

    Args:
        also: one more file, or "": AWS profiles name one.

    Raises:
        CertificatesError: a variable, one of those two included, names no usable certificates.
    """
    for name in _BASE_VARIABLES:
        next(_certificates((name,)), None)  # for the error alone: obstore reads these itself, and says less
    contents = dict(_certificates(_ADDED_VARIABLES, also))
    contents.pop(os.environ.get("SSL_CERT_FILE", ""), None)
    return b"\n".join(contents.values()).decode("utf-8", "replace")


def ca_bundle(also: str = "") -> str:
    """One PEM file with all certificates that are trusted; "" where only those that a library brings are left.

    Args:
        also: one more file, or "": AWS profiles name one.

    Raises:
        CertificatesError: a variable names no usable certificates.
    """
    sources = list(_certificates(_BASE_VARIABLES)) or _system_certificates()
    sources += _certificates(_ADDED_VARIABLES, also)
    by_path = dict(sources)
    return next(iter(by_path), "") if len(by_path) < 2 else _merge(by_path)


def is_ca_as_server(url: str, also: str = "") -> bool:
    """Whether the variables let a self-signed certificate of this server be trusted that is a CA's too.

    Only obstore refuses those by itself: what could be published could not be fetched.

    Args:
        url: an address of the server.
        also: one more file of certificates to trust, or "": AWS profiles name one.

    Raises:
        CertificatesError: a variable names no usable certificates.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    hosts = {host, f"*.{host.partition('.')[2]}"}
    data = dict(_certificates(CERTIFICATE_VARIABLES, also)) if parts.scheme == "https" else {}
    return any(not hosts.isdisjoint(_names_of_cas(certificates)) for certificates in data.values())


def proxy_for(url: str) -> str:
    """The URL of the proxy that a request to ``url`` goes through, or ""."""
    proxies = _proxies()
    scheme = urlsplit(url).scheme
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    return "" if not proxy or _is_direct(url, proxies.get("no", "")) else _with_scheme(proxy)


def proxy_and_excludes(url: str) -> tuple[str, str]:
    """A proxy, and the hosts that are reached without it, for a client of ``url`` that also signs in elsewhere.

    Its syntax for exclusions is obstore's, which knows no ports. ("", ""): no proxy is named at all.
    """
    proxies = _proxies()
    excluded = proxies.pop("no", "")
    scheme = urlsplit(url).scheme
    own = proxies.get(scheme) or proxies.get("all") or ""
    proxy = own or proxies.get("https", "")  # where it signs in
    if not proxy:
        # Naming a proxy is what keeps obstore from those of the environment.
        unused = [value for name in _PROXY_VARIABLES for value in _spellings(name) if value and value.strip()]
        return (_with_scheme(unused[0]), _EVERYTHING) if unused else ("", "")
    host = urlsplit(url).hostname or ""
    hosts = [*_METADATA_HOSTS, *(name for name, _ in _metadata_services())]
    if not own or _is_direct(url, excluded):
        hosts.append(host)
    for entry in _entries(excluded):
        name, port = _split_entry(entry)
        if entry == "*":
            hosts.append(_EVERYTHING)
        elif not port or (port == 443 and not _matches(name, host)):  # where it signs in, the port is 443
            hosts.append(name)
    return _with_scheme(proxy), ",".join(dict.fromkeys(hosts))


def obstores_proxy(url: str, proxy: str, excludes: str) -> str:
    """What obstore reaches ``url`` through, if it is told what ``proxy_and_excludes`` gives; "" for nothing."""
    host = urlsplit(url).hostname or ""
    entries = [_split_entry(entry)[0] for entry in _entries(excludes)]
    return "" if _EVERYTHING in excludes or any(_matches(entry, host) for entry in entries) else proxy


def direct_only(*urls: str) -> tuple[str, str]:
    """A proxy that is none, and the hosts that are reached without it: these and the metadata services.

    For a client that follows redirections with more than it should send: to any other host it finds no way.
    """
    hosts = [*(urlsplit(url).hostname or "" for url in urls), *_METADATA_HOSTS]
    hosts += [name for name, _ in _metadata_services()]
    return NOWHERE, ",".join(dict.fromkeys(hosts))


def is_configured() -> bool:
    """Whether any of the variables is set, so that another client's own reading of them could differ from ours."""
    return bool(_proxies()) or any(os.environ.get(name) for name in CERTIFICATE_VARIABLES)


def opener(url: str, also: str = "") -> OpenerDirector:
    """An opener of the standard library for ``url`` that follows no redirection: its answer is an HTTPError.

    What answers in no HTTP is an OSError as well.

    Args:
        url: what is to be asked.
        also: one more file of certificates to trust, or "": AWS profiles name one.

    Raises:
        CertificatesError: a variable names no usable certificates.
        SSLCertVerificationError: the server's own certificate is to be trusted, and is a CA's.
    """
    from http.client import HTTPException
    from urllib.request import BaseHandler, HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    scheme, proxy = urlsplit(url).scheme, proxy_for(url)
    handlers: list[BaseHandler] = [NoRedirect(), ProxyHandler({scheme: proxy} if proxy else {})]
    if scheme == "https":
        import ssl

        if is_ca_as_server(url, also):
            raise ssl.SSLCertVerificationError(f"certificate verify failed: {CA_AS_SERVER}")
        handlers.append(HTTPSHandler(context=client_tls(ca_bundle(also))))
    made = build_opener(*handlers)
    unguarded = made.open

    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return unguarded(*arguments, **options)
        except HTTPException as error:
            raise OSError(f"it does not answer in HTTP: {error}") from error

    made.open = guarded  # type: ignore[method-assign]
    return made


def connect(url: str, seconds: float, also: str = "") -> tuple[HTTPConnection, dict[str, str], bool]:
    """A connection of the standard library to the host of ``url``, for who sends more than an opener can.

    Args:
        url: what is to be asked.
        seconds: how long one step of it may take: connecting, or one piece that is sent or received.
        also: one more file of certificates to trust, or "": AWS profiles name one.

    Returns:
        The connection, not open yet; headers that every request on it needs; whether requests name the whole address,
        and not the path alone, since a proxy is asked.

    Raises:
        CertificatesError: a variable names no usable certificates.
        SSLCertVerificationError: the server's own certificate is to be trusted, and is a CA's.
    """
    from http.client import HTTPConnection, HTTPSConnection

    parts, proxy = urlsplit(url), urlsplit(proxy_for(url))
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    headers = {}
    if proxy.username:
        import base64
        from urllib.parse import unquote

        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    towards = (proxy.hostname, proxy.port or PORTS.get(proxy.scheme, 80)) if proxy.hostname else (host, port)
    if parts.scheme == "http":
        return HTTPConnection(*towards, timeout=seconds), headers, bool(proxy.hostname)
    import ssl

    if is_ca_as_server(url, also):
        raise ssl.SSLCertVerificationError(f"certificate verify failed: {CA_AS_SERVER}")
    made = HTTPSConnection(*towards, timeout=seconds, context=client_tls(ca_bundle(also)))
    if proxy.hostname:
        made.set_tunnel(host, port, headers)
    return made, {}, False


def client_tls(cafile: str) -> SSLContext:
    """A context that trusts a file of certificates, "" for the system's; it is read once, for all connections."""
    import ssl

    status = os.stat(cafile) if cafile else None  # noqa: PTH116
    key = (cafile, status.st_mtime_ns, status.st_ino) if status else (cafile, 0, 0)
    if key not in _contexts:
        _contexts[key] = ssl.create_default_context(cafile=cafile or None)
    return _contexts[key]


# --- certificates


def _certificates(variables: tuple[str, ...], also: str = "") -> Iterator[tuple[str, bytes]]:
    """The path and the contents of every file that the variables name."""
    for name in variables:
        value = os.environ.get(name, "")
        if value:
            paths = value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]
            yield from _read(name, [path for path in paths if path], value)
    if also:
        yield from _read("ca_bundle of the AWS profile", [os.path.expanduser(also)], also)  # noqa: PTH111


def _names_of_cas(certificates: bytes) -> frozenset[str]:
    """The hosts that self-signed certificates of CAs are for; parsed once, for a system's bundle takes 30 ms."""
    if certificates not in _ca_names:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with contextlib.suppress(ssl.SSLError):  # damaged: whoever verifies with it says so
            context.load_verify_locations(cadata=certificates.decode("ascii", "ignore"))
        _ca_names[certificates] = frozenset(
            str(name[1]).lower()
            for certificate in context.get_ca_certs()
            if certificate["subject"] == certificate["issuer"]
            for name in certificate.get("subjectAltName", ())
        )
    return _ca_names[certificates]


def _read(name: str, paths: list[str], value: str) -> Iterator[tuple[str, bytes]]:
    found = False
    folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112
    try:
        for path in paths:
            for file in _hashed_files(path) if path in folders else [path]:
                with open(file, "rb") as source:  # noqa: PTH123
                    data = source.read()
                if _PEM in data:
                    found = True
                    yield file, data
    except OSError as error:
        raise CertificatesError(f"{name} names {value}, which cannot be read: {error.strerror}.") from None
    if not found:
        how = " under a name that `openssl rehash` gives" if folders else ""
        raise CertificatesError(f"{name} names {value}, which holds no PEM certificate{how}.")


def _hashed_files(folder: str) -> list[str]:
    """The files of a folder that OpenSSL looks at: eight hexadecimal digits, a dot and a number."""
    names = [name.partition(".") for name in sorted(os.listdir(folder))]  # noqa: PTH208
    hexadecimal = set("0123456789abcdef")
    hashed = [
        stem + dot + end for stem, dot, end in names if len(stem) == 8 and set(stem) <= hexadecimal and end.isdigit()
    ]
    return [os.path.join(folder, name) for name in hashed]  # noqa: PTH118


def _system_certificates() -> list[tuple[str, bytes]]:
    for path in _SYSTEM_FILES:
        try:
            with open(path, "rb") as source:  # noqa: PTH123
                return [(path, source.read())]
        except OSError:
            continue
    return []


def _merge(contents: dict[str, bytes]) -> str:
    """A file with all of them, which libraries take by its path.

    It is named after its contents and stays, one for all of this user's processes: one that each made for itself would
    be left behind by those that are killed.
    """
    data = b"\n".join(contents.values())
    path = _merged.get(data, "")
    if not path or not os.path.exists(path):  # noqa: PTH110  the system may have cleaned up
        path = _merged[data] = _file_of(data)
    return path


def _file_of(data: bytes) -> str:
    import hashlib
    import tempfile
    from pathlib import Path

    from modeldrop.util.files import replace_file

    name = f"modeldrop-ca-{hashlib.sha256(data).hexdigest()[:32]}-{os.geteuid()}.pem"
    try:
        path = os.path.join(tempfile.gettempdir(), name)  # noqa: PTH118
        if not _is_ours(path, data):
            replace_file(Path(path), data, mode=0o600)
        if _is_ours(path, data):
            return path
    except OSError:  # nothing can be written here, or somebody else has taken the name
        pass
    try:
        descriptor = os.memfd_create(name)  # it lives as long as this process
        with open(descriptor, "wb", closefd=False) as target:
            target.write(data)
    except (AttributeError, OSError):
        raise CertificatesError(
            "The certificates to trust are in several files, and no temporary folder can be written, to put them into "
            "one: set TMPDIR."
        ) from None
    return f"/proc/self/fd/{descriptor}"


def _is_ours(path: str, data: bytes) -> bool:
    """Whether a file that only this user can have written holds just that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as source:  # noqa: PTH123
        status = os.fstat(descriptor)
        own = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return own and stat.S_ISREG(status.st_mode) and source.read(len(data) + 1) == data


# --- proxies


def _proxies() -> dict[str, str]:
    """What the variables say, by scheme, ``all`` and ``no``. Small letters win, an empty value included."""
    found = {}
    for name in (*_PROXY_VARIABLES, "no_proxy"):
        small, capital = _spellings(name)
        value = (capital if small is None else small).strip()
        if value:
            found[name.partition("_")[0]] = value
    return found


def _spellings(name: str) -> tuple[str | None, str]:
    """The value of a variable in small letters, None if it is not set, and of that in capitals."""
    return os.environ.get(name), os.environ.get(name.upper(), "")


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_direct(url: str, excluded: str) -> bool:
    """Whether NO_PROXY, or its being a metadata service, keeps a request from the proxy."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or PORTS.get(parts.scheme, 0)
    if host in _METADATA_HOSTS or (host, port) in _metadata_services():
        return True
    for entry in _entries(excluded):
        name, only = _split_entry(entry)
        if entry == "*" or (only in (0, port) and _matches(name, host)):
            return True
    return False


def _metadata_services() -> list[tuple[str, int]]:
    services = []
    for name in _METADATA_VARIABLES:
        value = os.environ.get(name, "")
        parts = urlsplit(value if "://" in value else f"http://{value}")
        if parts.hostname:
            services.append((parts.hostname, parts.port or PORTS.get(parts.scheme, 0)))
    return services


def _entries(excluded: str) -> list[str]:
    return excluded.lower().replace(",", " ").split()


def _split_entry(entry: str) -> tuple[str, int]:
    """Name and port of an entry of NO_PROXY; 0: every port."""
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (name.endswith("]") or ":" not in name):
        entry = name
    else:
        port = "0"
    return entry.removeprefix("*").strip(".[]"), int(port)


def _matches(name: str, host: str) -> bool:
    """Whether a host is the named one, below the named domain, or an address in the named network."""
    if "/" not in name:
        return bool(name) and (host == name or host.endswith(f".{name}"))
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
