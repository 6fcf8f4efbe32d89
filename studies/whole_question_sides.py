"""The sides of studies/whole_question.py: functions from a file of texts to predictions.

A side returns, for each method, the predicted label of each text tested, by the text's row.
TF-IDF reads whole texts, all other methods read a text's last 128 tokens.

What was tried, in CPU seconds of one thread on an AMD EPYC with AVX-512 bf16 (for peft see
studies/whole_question_peft.py):

    scikit-learn, IMDB, all folds       LogisticRegressionCV after TF-IDF 9 s, 81.9 % (taken);
                                        GridSearchCV of the pipeline 172 s, 81.6 %; words alone
                                        2 s, 79.0 %; pairs of words seen twice 3.5 s, 82.0 %
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

# The constants of finetuning.py for one's own texts.
MAX_TOKENS, TRUNCATION = 128, "left"
EPOCHS, PATIENCE, BATCH_SIZE, EVALUATION_BATCH_SIZE = 8, 2, 32, 32
WEIGHT_DECAY, WARMUP = 0.01, 0.1
RATES, RANK, ALPHA, BLOCKS = (5e-4, 1.6e-3, 5e-3), 16, 32, 3
MODULES = ["query", "key", "value", "attention.output.dense"]  # q, k, v, o of BERT


def folds_file(file: Path) -> Path:
    """The file with the folds of a file of texts: a column a fold, with each text's split."""
    return file.with_name(f"{file.stem}-folds.csv")


def read(file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts and their labels, and the folds."""
    return pd.read_csv(file, keep_default_na=False), pd.read_csv(folds_file(file))


# ---------------------------------------------------------------------------- this package


def ours(file: Path, *options: str) -> dict[str, pd.Series]:
    """`python finetuning.py --dataset FILE.csv` with options, as one types it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "finetuning.py", "--dataset", str(file), *options]
        subprocess.run([*command, "--results", folder], check=True, stdout=sys.stderr)
        return predicted_in(Path(folder))


def predicted_in(folder: Path) -> dict[str, pd.Series]:
    """The labels that the runs in `folder` predict, all folds of a method together."""
    parts = {}
    for path in sorted(folder.glob("*/*-seed*/predictions.csv")):
        table = pd.read_csv(path, index_col="row")
        logits = table.filter(regex="^logit_")
        names = logits.idxmax(axis=1).str.removeprefix("logit_")
        parts.setdefault(path.parent.name.rpartition("-seed")[0], []).append(names)
    return {method: pd.concat(folds) for method, folds in parts.items()}


# ---------------------------------------------------------------------------- the others


def peft(file: Path) -> dict[str, pd.Series]:
    """peft's LoRA with transformers' Trainer: the same folds, rates, epochs and choices."""
    from studies.whole_question_peft import predict_all

    return {"lora": predict_all(*read(file))}


def sklearn(file: Path) -> dict[str, pd.Series]:
    """TF-IDF and a logistic regression, in the ten lines that a user would write."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts, folds = read(file)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    penalties = np.logspace(-1, 3, 5)
    model = LogisticRegressionCV(Cs=penalties, cv=5, scoring="neg_log_loss", max_iter=1000)
    fold = PredefinedSplit((folds == "test").to_numpy().argmax(axis=1))
    pipeline = make_pipeline(words, model)
    return {"tfidf": pd.Series(cross_val_predict(pipeline, texts["text"], texts["label"], cv=fold))}


SIDES = {
    "ours": lambda file: ours(file, "--methods", "lora"),
    "ours-all": ours,
    "peft": peft,
    "sklearn": sklearn,
}
