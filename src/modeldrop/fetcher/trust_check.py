"""Refuse what trusted keys have not signed; the rules are in ``trust/rules.py``.

Remembered are the keys that have signed a version: whoever asks compares them with those that are trusted now.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modeldrop.fetcher.version_check import VersionCheck, refuse_pruned
from modeldrop.trust.rules import verify_channel, verify_statement
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.resolve import ResolvedVersion, Resolver
    from modeldrop.format.channel import Channel
    from modeldrop.format.json_fields import Fields
    from modeldrop.trust.rules import Trust

_MAX_SIGNERS = 64


class TrustCheck(VersionCheck):
    """Asks for signatures.

    Args:
        trust: who is trusted.
        home: see ``VersionCheck``.
    """

    folder = ".statements"
    evidence = "a statement"

    def __init__(self, trust: Trust, home: ModelHome) -> None:
        super().__init__(home)
        self._trust = trust

    def check_channel(self, channel: Channel, name: str, where: str) -> str:
        """Refuse a channel's document that is not signed for this channel of this model, or has expired.

        Returns:
            When its signature expires, "" if it does not.

        Args:
            channel: the document.
            name: the channel's name.
            where: its address.

        Raises:
            TrustError: it is not.
        """
        now = iso_time(time.time())
        return verify_channel(self._trust, channel, model=self._home.name, name=name, where=where, now=now).expires

    def verify(self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None) -> str:
        data = resolver.read_statement(version)
        if data is None:
            refuse_pruned(version, resolver, stored)
        where = f"{resolver.version_url(version)}/statement.json"
        found = verify_statement(self._trust, data, model=self._home.name, digest=version.digest, where=where)
        self._verified = {"digest": found.digest, "signers": list(found.signers)}
        return found.digest

    def would_do(self, found: Fields) -> bool:
        return self._trust.is_met_by(found.texts("signers", limit=_MAX_SIGNERS))
