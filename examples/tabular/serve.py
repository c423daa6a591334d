"""The service: `uvicorn serve:app`. It follows `current`, and swaps the model while it serves."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

import modeldrop

app = FastAPI()
models: dict[str, onnxruntime.InferenceSession] = {}


class Customer(BaseModel):
    age: float
    income: float
    city: str


def load(new: modeldrop.Snapshot, _: modeldrop.Snapshot | None) -> None:
    models["credit"] = onnxruntime.InferenceSession(new.model_file)


watcher = modeldrop.watch(f"{os.environ['MODELDROP_REGISTRY']}/credit", load)
watcher.wait()


@app.post("/score")
def score(customer: Customer) -> dict[str, float | str]:
    _, probabilities = models["credit"].run(
        None,
        {
            "age": np.array([[customer.age]], np.float32),
            "income": np.array([[customer.income]], np.float32),
            "city": np.array([[customer.city]]),
        },
    )
    return {"pays": round(float(probabilities[0, 1]), 4), "version": f"v{watcher.snapshot.version}"}
