from __future__ import annotations

from modeldrop.fetcher.download.write_sizes import SHORT, WHOLE, WriteSizes

PIECE = 1 << 20


def choices(sizes: WriteSizes, pieces: int, seconds: dict[int, float]) -> list[int]:
    """What is chosen for so many pieces, each of which takes so long."""
    chosen = []
    for _ in range(pieces):
        chosen.append(sizes.choose())
        sizes.note(chosen[-1], PIECE, seconds[chosen[-1]])
    return chosen


def test_both_ways_are_tried_then_the_faster_is_taken() -> None:
    for faster, slower in ((SHORT, WHOLE), (WHOLE, SHORT)):
        chosen = choices(WriteSizes(in_memory=False), 127, {faster: 0.001, slower: 0.003})
        assert chosen[:6].count(SHORT) == 3
        assert set(chosen[6:]) == {faster}


def test_the_slower_is_tried_again_now_and_then() -> None:
    sizes = WriteSizes(in_memory=False)
    chosen = choices(sizes, 300, {SHORT: 0.001, WHOLE: 0.003})
    assert [number for number, one in enumerate(chosen, 1) if number > 6 and one == WHOLE] == [128, 256]
    chosen = choices(sizes, 300, {SHORT: 0.160, WHOLE: 0.005})  # now another thread computes
    assert set(chosen[10:50]) == {WHOLE}


def test_one_slow_piece_decides_nothing() -> None:
    sizes = WriteSizes(in_memory=False)
    choices(sizes, 20, {SHORT: 0.001, WHOLE: 0.003})
    sizes.note(SHORT, PIECE, 0.006)
    assert sizes.choose() == SHORT


def test_small_files_say_nothing() -> None:
    sizes = WriteSizes(in_memory=False)
    for _ in range(20):
        sizes.note(sizes.choose(), 1000, 0.5)
    assert {sizes.choose(), sizes.choose()} == {SHORT, WHOLE}


def test_in_memory_all_is_written_at_once() -> None:
    assert set(choices(WriteSizes(in_memory=True), 200, {WHOLE: 1.0})) == {WHOLE}
