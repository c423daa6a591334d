"""Small models of tabular frameworks, trained on the same few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

ROWS = 120


def numbers(columns: int = 4, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)


def classes(count: int = 3, rows: int = ROWS) -> np.ndarray:
    x = numbers(rows=rows)
    labels: np.ndarray = np.digitize(x[:, 0] + x[:, 1] ** 2, [0.3, 1.2][: count - 1])
    return labels


def people() -> Any:
    """A table with a column of strings, as most tables have."""
    import pandas as pd

    random = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "age": random.uniform(18, 80, ROWS).round(0),
            "city": random.choice(["Bern", "Lima", "Oslo"], ROWS),
            "income": random.lognormal(8, 1, ROWS),
        }
    )


def forest(path: Path) -> Path:
    """A random forest with strings for labels, as .skops."""
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    labels = np.array(["no", "perhaps", "yes"])[classes()]
    skops.io.dump(RandomForestClassifier(12, max_depth=5, random_state=0).fit(numbers(), labels), path)
    return path


def pipeline(path: Path) -> Path:
    """A whole pipeline with a column of strings, as .joblib."""
    import joblib
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = people()
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["age", "income"]), ("words", OneHotEncoder(), ["city"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, table["age"] * (table["city"] == "Oslo") > 20)
    joblib.dump(model, path)
    return path


def regression(path: Path) -> Path:
    """Boosted trees that estimate a number, in a pipeline, as .skops."""
    import skops.io
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    model = make_pipeline(MinMaxScaler(), GradientBoostingRegressor(n_estimators=20, random_state=0))
    skops.io.dump(model.fit(numbers(), numbers() @ [100.0, -20.0, 3.0, 0.5]), path)
    return path


def lightgbm(path: Path) -> Path:
    import lightgbm as library

    settings = {"objective": "multiclass", "num_class": 3, "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
    library.train(settings, library.Dataset(numbers(), classes()), 10).save_model(path)
    return path


def xgboost(path: Path) -> Path:
    import xgboost as library

    settings = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    library.train(settings, library.DMatrix(numbers(), classes(2)), 10).save_model(path)
    return path


def catboost(path: Path) -> Path:
    import catboost as library

    library.CatBoostClassifier(
        iterations=10, depth=3, thread_count=1, verbose=False, allow_writing_files=False, random_seed=0
    ).fit(numbers(), classes()).save_model(str(path))
    return path
