"""The answer for one's own texts: a table of methods, the advice, and what to do next."""

import shlex

import pandas as pd

from boundary import quoted
from records import starts

from . import errors
from .advice import advise, chance, compared, complete, left_out, more_labels
from .comparisons import MOST_LABELS
from .markdown import number, percent, size, with_intervals
from .metrics import METRICS, PLANNABLE
from .results import Results
from .style import without

MUCH = 0.2  # share of truncated texts above which the options are named
WIDEST = 80  # letters of a label on a terminal
SMALL = "all-MiniLM-L6-v2"  # the encoder that is bundled


def methods(results: Results) -> pd.DataFrame:
    """A row a method, the highest score first: scores with intervals, difference from the probe.

    `difference`, `difference_low`, `difference_high` and `verdict` (Holm over these rows) are for
    the experiment's metric, and missing without a probe. `seconds` is the mean over the runs, for
    training and frozen blocks.
    """
    table = results.intervals.set_index("method").loc[compared(results)]
    names = results.runs.drop_duplicates("method").set_index("method")["name"]
    probes = [method for method in table.index if names[method] == "probe"]
    if probes:
        known = table[f"{results.metric}_low"].notna()  # one run does not show how seeds vary
        pairs = [(m, probes[0]) for m in table.index[known] if m != probes[0]]
        pairs *= bool(known[probes[0]])
        leads = results.compare(pairs).set_index("method_a")
        ends = {"low": "difference_low", "high": "difference_high"}
        table = table.join(leads.rename(columns=ends)[["difference", "verdict", *ends.values()]])
    means = results.runs.groupby("method")[["trainable_parameters", "total_seconds"]].mean()
    table = table.join(means.rename(columns={"total_seconds": "seconds"}))
    return table.sort_values(results.metric, ascending=False, kind="stable").reset_index()


def larger_encoder(results: Results) -> list[str]:
    """A sentence on the larger of the two English encoders, where the smaller one was used."""
    return [
        "A larger encoder may add more than another method: for English texts try --model mpnet "
        "(docs/your-own.md), as another --experiment."
    ] * (results.experiment["model"] == SMALL)


def final_sentence(results: Results) -> str:
    """A sentence that says what `final_command` does."""
    advised = advise(results)
    label = results.looks[advised.method].label
    more = "" if advised.is_worthwhile else " all the same"
    return f"This trains {label} on all texts{more}, to classify new ones"


def final_command(results: Results) -> str:
    """The command that trains the advised method on all texts, with its comparison's constants.

    It extends the last command that had this method: other commands may have other constants.
    """
    method = without("labels", advise(results).method)
    commands = starts(results.experiment["command"])
    with_method = [command for command in commands if _has(shlex.split(command), method)]
    return f"{(with_method or commands)[-1]} --final {quoted(method)}"


def _has(words, method):
    """Whether a command has all parts of a method, each alone or in a combination."""
    typed = [part for word in words for part in word.removeprefix("--methods=").split("+")]
    are_all = not any(word.split("=")[0] == "--methods" for word in words)
    return are_all or set(method.split("+")) <= set(typed)


# ---------------------------------------------------------------------------- for terminal and page


def method_columns(results: Results) -> dict[str, list[str]]:
    """The table of methods: the cells under each heading."""
    rows = methods(results)
    columns = {"method": results.labels(rows["method"])}
    columns |= {METRICS[name].heading: with_intervals(rows, name) for name in PLANNABLE}
    if "difference" in rows:
        leads = zip(with_intervals(rows, "difference"), rows["verdict"], strict=True)
        metric = f", {METRICS[results.metric].label}" * (results.metric != "accuracy")
        columns[f"− probe, points{metric}"] = [
            "" if pd.isna(v) else f"{lead} {v}" for lead, v in leads
        ]
    columns["parameters"] = [number(n, "{:,.0f}") for n in rows["trainable_parameters"]]
    columns["seconds"] = list(map(size, rows["seconds"]))
    return columns


def notes(results: Results) -> list[str]:
    """Sentences that explain the table of methods."""
    guess, share = chance(results)
    data, tokens = results.experiment["data"], results.experiment["constants"].get("max_tokens")
    truncated = data["test_share_truncated"]
    missing = left_out(results)
    kind = "fold" if results.is_folds else "run"
    why = "not all folds are" if results.is_folds else "no run is"
    lines = [f"Left out, since {why} finished: {', '.join(missing)}."] * bool(missing)
    folds, finished = data["folds"], results.runs["seed"].nunique()
    if results.is_folds and finished < folds:
        texts = f"{len(results.predictions.labels):,} of {data['texts']:,}"
        lines += [f"Only {finished} of {folds} folds are finished: they test {texts} texts."]
    if tokens and truncated > MUCH and complete(results) != ["tfidf"]:
        line = (
            f"The encoder reads {tokens} tokens of a text, and {percent(truncated)} % of the tested"
        )
        line += " texts have more: other --max-tokens, or --truncation, may change the answer."
        lines.append(f"{line} Try them as another --experiment.")
    return [
        *lines,
        f"In brackets: 95 % intervals, of {results.covers}.",
        "Verdicts are corrected over the table's rows (Holm); intervals are not corrected.",
        f"{guess[0].upper()}{guess[1:]} has {percent(share)} % {METRICS[results.metric].label}.",
        f"Seconds: training of a {kind}'s model, its frozen blocks included.",
    ]


def terminal(results: Results) -> str:
    """The answer for a terminal: the table, its notes, the advice, the advised method's errors."""
    advised = advise(results)
    with pd.option_context("display.unicode.east_asian_width", True):  # such letters are wide
        methods = pd.DataFrame(method_columns(results)).to_string(index=False)
        labels = pd.DataFrame(errors.label_columns(results, advised.method))
        if len(labels) <= MOST_LABELS:
            found = labels.to_string(index=False, max_colwidth=WIDEST)
        else:
            found = f"How each of the {len(labels)} labels is found: see report.html"
    return "\n".join(
        [
            methods,
            *notes(results),
            "",
            advised.sentence,
            *more_labels(results),
            *larger_encoder(results),
            "",
            found,
            *errors.frequent_errors(results, advised.method),
            errors.referral(results, advised.method),
        ]
    )
