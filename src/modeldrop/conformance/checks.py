"""``CHECKS``: all that a store must promise to a registry, each as a check of one promise of the doctor's.

Each is a plain function of a ``ScratchModel``; it fails with a sentence that says what the store did. None needs
pytest. They write about 160 MB in all, below a scratch model of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modeldrop.conformance import documents, files
from modeldrop.conformance.scratch import ScratchModel
from modeldrop.doctor.checks import CREATE_ONLY, DELETE, FETCHER, LARGE_FILES, LIST, READ, SWAP, WRITE


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    Attributes:
        promise: the doctor's check that it goes into.
        title: what is promised, in a few words.
        run: raises NonconformantError where it is not kept, LackError where modeldrop can do without it,
            NotApplicableError where it cannot be looked at, and ModeldropError where the store fails otherwise.
        slow: it makes more than a thousand requests.
    """

    promise: str
    title: str
    run: Callable[[ScratchModel], None]
    slow: bool = False

    @property
    def name(self) -> str:
        """The function's name, to select it by."""
        return self.run.__name__


CHECKS = (
    Check(READ, "what is not there is absent", documents.nothing_is_there),
    Check(CREATE_ONLY, "create-only is honoured", documents.create_only),
    Check(WRITE, "odd names are kept", documents.odd_names),
    Check(WRITE, "empty objects are kept", documents.empty_objects),
    Check(SWAP, "compare-and-swap is honoured", documents.swap),
    Check(SWAP, "compare-and-swap of what was created", documents.swap_created),
    Check(SWAP, "compare-and-swap brings nothing back", documents.swap_missing),
    Check(CREATE_ONLY, "one of 16 creators wins", documents.race_to_create),
    Check(SWAP, "one of 16 swappers wins", documents.race_to_swap),
    Check(SWAP, "one of 16 swappers from nothing wins", documents.race_to_swap_from_nothing),
    Check(LIST, "listings are consistent", documents.listing),
    Check(LIST, "listings of several pages are complete", documents.long_listing, slow=True),
    Check(READ, "what replaced an object is read at once", documents.overwritten),
    Check(DELETE, "deletion is idempotent", documents.deletion),
    Check(WRITE, "a small file is uploaded", files.upload_small),
    Check(LARGE_FILES, "files around the size of a part are uploaded", files.upload_around_the_part_size),
    Check(LARGE_FILES, "a file in parts is uploaded, and read in ranges", files.upload_in_parts),
    Check(LARGE_FILES, "a file of small pieces is uploaded", files.upload_small_pieces),
    Check(WRITE, "wrong bytes are not uploaded", files.upload_refuses_other_bytes),
    Check(CREATE_ONLY, "an upload replaces nothing", files.upload_over_another),
    Check(CREATE_ONLY, "nor does one in parts, of what was created meanwhile", files.completion_over_another),
    Check(LARGE_FILES, "unfinished uploads are listed and aborted", files.unfinished_uploads),
    Check(READ, "types and cache headers are served", files.headers),
    Check(FETCHER, "the fetcher reads what was written", files.crossed),
    Check(FETCHER, "a build is published and fetched", files.publish_and_fetch),
)
