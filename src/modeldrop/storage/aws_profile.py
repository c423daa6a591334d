"""The settings of an AWS profile, from ``~/.aws/config`` and ``~/.aws/credentials``."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from modeldrop.errors import RegistryError
from modeldrop.util.files import expand_user
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from configparser import RawConfigParser

_SIGN_IN = (
    "aws_access_key_id",
    "credential_process",
    "login_session",
    "role_arn",
    "sso_account_id",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
)


class AwsProfile(NamedTuple):
    """The AWS profile in use.

    Attributes:
        name: its name, "" for the default one.
        signs_in: whether it says how to sign in.
        values: its settings; what is nested below one has a dot: ``s3.addressing_style``. Those of its ``services``
            section are among them: ``sts.endpoint_url``.
    """

    name: str = ""
    signs_in: bool = False
    values: Mapping[str, str] = MappingProxyType({})

    def get(self, key: str) -> str:
        """A setting, "" where the files do not have it."""
        return self.values.get(key, "")


def aws_profile(env: Mapping[str, str], home: Path) -> AwsProfile:
    """The AWS profile that the variables name, else the default one.

    Raises:
        RegistryError: the files cannot be parsed, or have no profile of that name.
    """
    named = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or ""
    files = [
        expand_user(env.get("AWS_CONFIG_FILE") or home / ".aws" / "config"),
        expand_user(env.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"),
    ]
    found: dict[str, str] = {}
    known = False
    for parser in [_parse(path) for path in files if path.is_file()]:
        for section in (named or "default", f"profile {named or 'default'}"):
            if parser.has_section(section):
                known = True
                found.update(_flat(parser, section))
        services = f"services {found.get('services', '')}"
        if parser.has_section(services):
            found.update(_flat(parser, services))
    if named and not known:
        raise RegistryError(
            f"AWS_PROFILE is {named}, but there is no such profile in ~/.aws.", "Fix its name, or unset AWS_PROFILE."
        )
    return AwsProfile(named if known else "", any(found.get(key) for key in _SIGN_IN), found)


def _parse(path: Path) -> RawConfigParser:
    from configparser import Error, RawConfigParser  # most containers have no such file

    parser = RawConfigParser(strict=False, default_section="\0")
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, Error):
        raise RegistryError(
            f"{path} cannot be read as an AWS profile file.", "Fix it, or set AWS_ACCESS_KEY_ID instead."
        ) from None
    return parser


def _flat(parser: RawConfigParser, section: str) -> dict[str, str]:
    found = {}
    for name, value in parser.items(section):
        if not value.startswith("\n"):
            found[name] = value
            continue
        for line in value.splitlines():
            key, equals, nested = line.partition("=")
            if equals:
                found[f"{name}.{key.strip()}"] = nested.strip()
    return found
