"""A real fine-tune of the benchmarks' model: ``python -m benchmarks.fine_tune FOLDER [STEPS]``.

AdamW at 2e-5, on the built-in texts: each text and itself under another dropout belong together, the rest of the batch
does not (SimCSE). That is what a nightly training does to weights, seen from their bytes: all move, most by little.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.workspace import SOURCE
from modeldrop.export.builtin_texts import BUILT_IN

STEPS = 40
_TOKENS = 48
_BATCH, _RATE, _TEMPERATURE, _SEED = 8, 2e-5, 0.05, 5


def fine_tune(folder: Path, steps: int = STEPS) -> None:
    """Write a checkpoint of the benchmarks' model, trained for some steps more, into a folder that is not there."""
    import torch  # only here: what else imports this module need not wait for it
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(_SEED)
    tokenizer, model = AutoTokenizer.from_pretrained(SOURCE), AutoModel.from_pretrained(SOURCE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    order = torch.Generator().manual_seed(_SEED)
    for _ in range(steps):
        chosen = torch.randperm(len(BUILT_IN), generator=order)[:_BATCH]
        texts = [BUILT_IN[index] for index in chosen]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        first, second = (
            torch.nn.functional.normalize((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1))
            for _ in range(2)
        )
        scores = first @ second.T / _TEMPERATURE
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(texts)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    shutil.copytree(SOURCE, folder)
    model.eval().save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fine_tune", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to, not there yet")
    parser.add_argument("steps", type=int, nargs="?", default=STEPS, help=f"of AdamW (default: {STEPS})")
    arguments = parser.parse_args()
    fine_tune(arguments.folder, arguments.steps)


if __name__ == "__main__":
    main()
