"""The fetcher. Standard library, obstore and blake3: nothing else, ever."""
