"""Tiny models, made from a config, and made-up reviews: offline, with a cache of their own."""

import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import boundary

boundary.before_libraries()

os.environ["HF_HUB_OFFLINE"] = os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if "GPU_TESTS" not in os.environ:  # `python -m studies.gpu tests` sets it
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "hf-home-of-tests" not in os.environ.get("HF_HOME", ""):  # else a test has started this process
    CACHE = tempfile.TemporaryDirectory(prefix="hf-home-of-tests-")
    os.environ["HF_HOME"] = CACHE.name  # before the libraries, which read it once
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        os.environ.pop(name, None)

import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoConfig, BertTokenizer
from transformers import AutoModelForSequenceClassification as Classifier

import finetuning
import hardware
from evaluation import report, style
from experiment import Run

torch.set_num_threads(1)  # tiny tensors: a second thread only waits

WORDS = ["good", "great", "fine", "bad", "awful", "dull", "film", "plot", "actor"]
WORDS += ["the", "a", "was", "and", "very", "not"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ENCODER = {
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 18,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.1,
    "pad_token_id": 0,
}
DECODER = ENCODER | {"num_key_value_heads": 1, "head_dim": 4, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {  # each family as small as possible, with the settings that set it apart
    "distilbert": {
        "vocab_size": 20,
        "dim": 8,
        "hidden_dim": 12,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": 18,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "bert": ENCODER,
    "roberta": ENCODER,
    "xlm-roberta": ENCODER,
    "electra": ENCODER | {"embedding_size": 6},
    "mpnet": ENCODER | {"pad_token_id": 1},
    "deberta-v2": ENCODER
    | {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": 8,
    },
    "modernbert": ENCODER
    | {
        "local_attention": 4,
        "global_attn_every_n_layers": 2,
        "classifier_pooling": "mean",
        "mlp_dropout": 0.0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    "llama": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER,
}


def tiny(family="bert", seed=0, layers=2, **changes):
    """A tiny classifier of one family, in float64, with weights that are not near zero."""
    torch.manual_seed(seed)
    name = "n_layers" if family == "distilbert" else "num_hidden_layers"
    config = AutoConfig.for_model(family, **CONFIGS[family] | {name: layers} | changes)
    model = Classifier.from_config(config, dtype=torch.float32).double().eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name.lower():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def randomised(model):
    """A method's model in eval mode, its trained parameters far from their initial values."""
    torch.manual_seed(3)
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tokens(batch=3, length=7):
    """Token ids and a mask (N, T); all but the first row end in padding."""
    torch.manual_seed(1)
    ids = torch.randint(5, 20, (batch, length))
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        ids[row, -row:], mask[row, -row:] = 0, 0
    return ids, mask


@pytest.fixture(params=list(CONFIGS))
def family(request):
    return request.param


@pytest.fixture(autouse=True)
def closed_figures():
    """A process that runs many tests keeps no figure that one of them has looked at."""
    yield
    style.plt.close("all")


@pytest.fixture
def without_figures(monkeypatch):
    """No figures are drawn: they take most of the time of a tiny experiment."""
    monkeypatch.setattr(report, "draw", lambda results: {})


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(hardware, "choose_device", lambda: torch.device("cpu"))


@pytest.fixture
def in_float32_on_the_cpu(monkeypatch, on_the_cpu):
    """float32 even on a CPU that would take bf16, for comparison with code that does not."""
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A tiny BERT in float32 and its tokenizer, saved as transformers saves them."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    tiny("bert").float().save_pretrained(folder)
    return folder


def reviews_frame(n, seed=0):
    """Reviews of random words whose label says whether a good word or a bad one is in them."""
    random = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(n):
        label = i % 2
        draws = torch.randint(6, 15, (4 + i % 5,), generator=random).tolist()
        mood = WORDS[(0 if label else 3) + i % 3]
        rows.append({"text": " ".join([mood, *(WORDS[d] for d in draws), f"x{i}"]), "label": label})
    return pd.DataFrame(rows)


def raising(error):
    """A function that raises `error`, whatever it is given."""

    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture(scope="session")
def earlier(model_folder, tmp_path_factory):
    """A folder with an earlier experiment in results/, and its arguments without RESULTS.

    Its runs head and lora are finished; a third run, bitfit, was stopped at its end.
    """
    root = tmp_path_factory.mktemp("earlier")
    reviews_frame(60).to_csv(root / "reviews.csv", index=False)
    arguments = ["--experiment", "tiny", "--model", model_folder, "--dataset", root / "reviews.csv"]
    arguments += ["--preset", "quick", "--folds", "None", "--seeds", "0", "--max-tokens", "12"]
    arguments += ["--epochs", "1", "--head-epochs-factor", "1", "--blocks", "all"]
    arguments += ["--pooling", "first", "--learning-rates", "head=0.01", "lora=0.003"]
    arguments = [*map(str, arguments), "bitfit=0.01", "adapter=0.01"]
    given = [*arguments, "--results", str(root / "results"), "--methods"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda results: {})
        assert finetuning.main([*given, "head", "lora"]) == 0
        patch.setattr(Run, "load_best", raising(KeyboardInterrupt))
        assert finetuning.main([*given, "bitfit"]) == 130
    return root, arguments


def files_of(folder):
    """The bytes of every file, by its path; a folder's path ends in a slash, its bytes are b""."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name if path.is_file() else f"{name}/": path.read_bytes() if path.is_file() else b""
        for name, path in paths.items()
    }


@pytest.fixture(scope="session")
def evidence(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of an experiment of docs/results, by name; archived ones are unpacked."""
    results = Path(__file__).parent / "docs" / "results"
    unpacked = tmp_path_factory.mktemp("unpacked")
    for file in results.glob("*.tar.xz"):
        with tarfile.open(file) as archive:
            archive.extractall(unpacked, filter="data")
    return lambda name: found if (found := unpacked / name).exists() else results / name


@pytest.fixture
def reviews_csv(tmp_path):
    path = tmp_path / "reviews.csv"
    reviews_frame(120).to_csv(path, index=False)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch, in_float32_on_the_cpu):
    """The folder for cached output, still empty; runs compute in float32 on the CPU."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "frozen_blocks"


@pytest.fixture
def arguments(model_folder, reviews_csv, tmp_path):
    fixed = ["--preset", "quick", "--experiment", "tiny", "--model", model_folder]
    fixed += ["--dataset", reviews_csv, "--folds", "None", "--seeds", "0", "--pooling", "layers"]
    fixed += ["--evaluations-per-epoch", "3"]
    fixed += ["--max-tokens", "12", "--batch-size", "16", "--patience", "2"]
    fixed += ["--epochs", "4", "--head-epochs-factor", "1", "--blocks", "all"]
    fixed += ["--lora-dropout", "0.1", "--learning-rates", "head=0.01", "lora=0.01", "full=0.003"]

    def given(results, *more):
        return [str(part) for part in (*fixed, "--results", tmp_path / results, *more)]

    return given


@pytest.fixture
def command(arguments):
    """Like `arguments`, with shorter training, no dropout, and the folder as a keyword."""
    own = ["--epochs", "2", "--lora-dropout", "0"]
    own += ["--learning-rates", "head=0.01", "lora=0.01", "adapter=0.01"]

    def given(*more, results="results"):
        return arguments(results, *own, *more)

    return given
