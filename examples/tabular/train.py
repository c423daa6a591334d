"""The nightly training: a pipeline with a column of strings, saved as model.skops, and rows to judge it by."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=2000, help="how many rows to train on")
rows = parser.parse_args().rows


def customers(count: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Your data come from a warehouse; these are drawn."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 80, count).astype(float),
            "income": random.lognormal(8, 0.6, count),
            "city": random.choice(["Bern", "Lima", "Oslo", "Pune"], count),
        }
    )
    score = table["age"] / 40 + np.log(table["income"]) / 4 + (table["city"] == "Oslo") * 1.5
    return table, (score + random.normal(0, 0.3, count) > 3.6).astype(int)


table, paid = customers(rows, seed=1)
model = make_pipeline(
    ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "income"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    ),
    LogisticRegression(max_iter=1000),
).fit(table, paid)
skops.io.dump(model, "model.skops")

held_out, label = customers(200, seed=2)
held_out.assign(label=label).to_csv("held_out.csv", index=False)
