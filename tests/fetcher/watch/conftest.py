from tests.fetcher.watch.watch_setup import released, watch_setup

__all__ = ["released", "watch_setup"]
