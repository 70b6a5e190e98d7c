"""Checks what the papers claim, as orderings, against the numbers of our tables.

    python -m eval.reporting.claims --out_dir=runs/demo runs/demo/*.json

The papers' numbers belong to data that is not here; what the method must show anywhere is which
network is better. The tables are those of eval's commands; of several seeds, give every file. A
claim `holds` or `does not hold` if the difference that it is about exceeds NUM_ERRORS standard
errors, else it is `undecided`; what was not measured is `not run`. Exit status 0 once all is
reported; with --strict 1 if a claim does not hold. What is undecided or not run is never fatal.

Where a paper says "on par", "well above" or "at chance", `CLAIMS` says what that means here (our
choice).
"""

import dataclasses
import math
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from eval.reporting import tables
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting

HOLDS, UNDECIDED, FAILS = "holds", "undecided", "does not hold"
NUM_ERRORS = 2.0  # a difference of fewer standard errors decides nothing (our choice)

AVC, SOUND, IMAGENET, CLUSTERS = "avc_accuracy", "table2", "table3", "table4"
RETRIEVAL, LOCALIZATION = "retrieval", "localization"
CROSS, EVERY = ("im_aud", "aud_im"), ("im_im", "im_aud", "aud_im", "aud_aud")


@dataclasses.dataclass(frozen=True)
class Config:
    """The papers' claims."""

    out_dir: str = setting("runs/demo", "Folder for claims.json and claims.md.")
    strict: bool = setting(
        False,
        "Fail, with exit status 1, if a claim does not hold; undecided or not run is no failure.",
    )


@dataclasses.dataclass(frozen=True)
class Number:
    """A number in our tables, the mean of some metrics of a row."""

    table: str
    method: str
    metrics: tuple[str, ...]
    data_ends: str = ""  # how the row's data must end, where a table has several of a method
    instead: str = ""  # method of the row that counts where `method` was not run


@dataclasses.dataclass(frozen=True)
class Claim:
    """left + slack > factor * right, or, with `within`, |left - right| <= within * span."""

    text: str  # what is claimed
    source: str  # paper and section
    left: Number
    right: Number | float
    factor: float = 1.0
    slack: float = 0.0  # how far "not better" still is from better
    within: float | None = None  # largest difference of what should be equal, in units of `span`
    span: tuple[Number, Number] | None = None  # two numbers whose difference is it; None is 1


def _avc(method: str, instead: str = "") -> Number:
    return Number(AVC, method, ("accuracy",), instead=instead)


def _ndcg(method: str, directions: Sequence[str]) -> Number:
    return Number(RETRIEVAL, method, tuple(directions))


# --- L3 -------------------------------------------------------------------------------------------
L3_OWN = _avc("L3-Net", instead="L3-Net, as in OTS")
DIRECT, PRETRAINED = _avc("Supervised direct"), _avc("Supervised pretraining")


def _trained_above_random(what: str, source: str, table: str, metric: str, ends: str = "") -> Claim:
    ours, untrained = (Number(table, name, (metric,), ends) for name in ("Ours", "Ours random"))
    return Claim(f"{what}: trained above random network", source, ours, untrained)


def _clusters(what: str, ends: str) -> list[Claim]:
    above = _trained_above_random(f"NMI, {what}", "L3 Table 4", CLUSTERS, "nmi", ends)
    text = f"NMI, {what}: trained at least 1.5 times the random network's"
    units = [
        (f"Classes with a unit, {count} of 5, {what}", f"units_{count}_of_5") for count in (4, 3)
    ]
    return [
        above,
        dataclasses.replace(above, text=text, source="L3 §3.5.3", factor=1.5),
        *(_trained_above_random(text, "L3 §3.5.3", CLUSTERS, key, ends) for text, key in units),
    ]


def _sounds(method: str, other: str, within: float | None = None) -> Claim:
    comparison = (
        "above" if within is None else f"on par (our choice: within {within:g} points) with"
    )
    left, right = (Number(SOUND, name, ("accuracy",)) for name in (method, other))
    text = f"Sounds classified: {method.lower()} {comparison} {other}"
    return Claim(text, "L3 Table 2", left, right, within=within)


L3_CLAIMS = (
    Claim("L3-Net's AVC above chance", "L3 §3.2", L3_OWN, 50.0),
    Claim("L3-Net's AVC above supervised direct", "L3 §3.2", L3_OWN, DIRECT),
    Claim(
        "Supervised pretraining's AVC on par with L3-Net's (our choice: within 3 points)",
        "L3 §3.2",
        PRETRAINED,
        L3_OWN,
        within=3.0,
    ),
    Claim("Supervised pretraining's AVC above direct", "L3 §3.2", PRETRAINED, DIRECT),
    _trained_above_random("Sounds classified", "L3 Table 2", SOUND, "accuracy"),
    *(
        _sounds("Ours", other)
        for other in ("SVM-MFCC", "Random forest", "Piczak ConvNet", "SoundNet")
    ),
    _sounds("Ours random", "Piczak ConvNet", within=5.0),
    _trained_above_random("Images classified", "L3 Table 3", IMAGENET, "accuracy"),
    *_clusters("vision", "frames"),
    *_clusters("audio", "sounds"),
)

# --- OTS ------------------------------------------------------------------------------------------
L3, CCA, VGG, VGG_CCA = (
    *("L3-Net", "L3-Net with CCA", "VGG16-ImageNet", "VGG16-ImageNet + L3-Audio CCA"),
)
AVE, NAIVE, CHANCE = "AVE-Net", "AVE-Net, no shortcut prevention", "Random chance"
AVOL, AVOL_MOVED = "AVOL-Net", "AVOL-Net, sound of another class"
TABLE1 = "OTS Table 1"


def _ave_above(method: str, what: str, *directions: str) -> Claim:
    text = f"AVE-Net above {method}, {what}"
    return Claim(text, TABLE1, _ndcg(AVE, directions), _ndcg(method, directions))


def _no_boost(method: str) -> Claim:
    return Claim(
        f"{method} no better than AVE-Net in retrieval (our choice: by .02 at most)",
        "OTS §3.2",
        _ndcg(AVE, EVERY),
        _ndcg(method, EVERY),
        slack=0.02,
    )


OTS_CLAIMS = (
    Claim(
        "AVE-Net's AVC above L3-Net's", "OTS §3.1", _avc(AVE), _avc("L3-Net, as in OTS", "L3-Net")
    ),
    # Features that were never aligned rank classes in some fixed wrong order, which may be better
    # or worse than chance: a quarter of the way to AVE-Net still counts as chance (our choice).
    Claim(
        "L3-Net's cross-modal retrieval at chance (our choice: a quarter of the way to AVE-Net)",
        "OTS §3.1",
        _ndcg(L3, CROSS),
        _ndcg(CHANCE, CROSS),
        within=0.25,
        span=(_ndcg(AVE, CROSS), _ndcg(CHANCE, CROSS)),
    ),
    Claim(
        "L3-Net with CCA well above L3-Net across modalities (our choice: 1.2 times; paper: 1.36)",
        "OTS §3.1",
        _ndcg(CCA, CROSS),
        _ndcg(L3, CROSS),
        factor=1.2,
    ),
    *(_ave_above(method, "across modalities", *CROSS) for method in (L3, CCA)),
    Claim(
        "AVE-Net well above VGG16 + L3-audio CCA across modalities (our choice: 1.1 times)",
        "OTS §3.1",
        _ndcg(AVE, CROSS),
        _ndcg(VGG_CCA, CROSS),
        factor=1.1,
    ),
    Claim(
        "L3-Net with CCA above VGG16 + L3-audio CCA across modalities",
        "OTS §3.1",
        _ndcg(CCA, CROSS),
        _ndcg(VGG_CCA, CROSS),
    ),
    *(_ave_above(method, "im-im", "im_im") for method in (L3, CCA, VGG_CCA)),
    Claim(
        "AVE-Net on par with VGG16-ImageNet or above, im-im (our choice: by .02 below at most)",
        "OTS §3.1",
        _ndcg(AVE, ("im_im",)),
        _ndcg(VGG, ("im_im",)),
        slack=0.02,
    ),
    *(_ave_above(method, "aud-aud", "aud_aud") for method in (L3, CCA, VGG_CCA)),
    *(
        Claim(f"{method}'s AVC above AVE-Net's", "OTS §3.2", _avc(method), _avc(AVE))
        for method in ("AVE+MF", "AVE+OF")
    ),
    *(_no_boost(method) for method in ("AVE+MF", "AVE+OF")),
    Claim("Without shortcut prevention AVC goes up", "OTS §3.3", _avc(NAIVE), _avc(AVE)),
    Claim(
        "Without shortcut prevention retrieval goes down (mean of four directions)",
        "OTS §3.3",
        _ndcg(AVE, EVERY),
        _ndcg(NAIVE, EVERY),
    ),
    Claim(
        "AVOL-Net's AVC equal to AVE-Net's (our choice: within 3 points)",
        "OTS §4.1",
        _avc(AVOL),
        _avc(AVE),
        within=3.0,
    ),
    Claim(
        "AVOL-Net localizes better than the image centre",
        "OTS §4.1",
        Number(LOCALIZATION, AVOL, ("hits",)),
        Number(LOCALIZATION, "Image centre", ("hits",)),
    ),
    Claim(
        "Mismatched sound empties or moves most maps",
        "OTS §4.1",
        Number(LOCALIZATION, AVOL_MOVED, ("empty_or_moved",)),
        50.0,
    ),
)
CLAIMS = (*L3_CLAIMS, *OTS_CLAIMS)


# --- Numbers and their errors ---------------------------------------------------------------------
class _NotRunError(Exception):
    """A number that a claim needs was not measured."""


class Numbers:
    """Looks numbers up in the tables of one seed, by name."""

    def __init__(self, of_seed: Mapping[str, tables.Table]):
        self._tables = of_seed

    def row(self, number: Number) -> tables.Row:
        """Returns a number's row.

        Raises:
            _NotRunError: if there is none that was run.
            UserError: if there are several.
        """
        if number.table not in self._tables:
            raise _NotRunError(f"no table {number.table!r}")
        for method in filter(None, (number.method, number.instead)):
            rows = [
                row
                for row in self._tables[number.table].rows
                if row.method.casefold() == method.casefold()
                and row.data.endswith(number.data_ends)
                and row.status == tables.RUN
            ]
            if len(rows) > 1:
                raise UserError(
                    f"table {number.table!r} has {len(rows)} rows {method!r} that were run; "
                    "claims are checked on one data set at a time"
                )
            if rows:
                return rows[0]
        raise _NotRunError(f"{number.table}: {number.method!r} was not run")

    def value(self, number: Number | float) -> tuple[float, float | None]:
        """Returns a number and its standard error over what was tested, None if not known.

        The error of a mean over metrics is the metrics' mean error, as if they erred alike. See
        `row` for what is raised.
        """
        if not isinstance(number, Number):
            return float(number), 0.0
        row = self.row(number)
        missing = [metric for metric in number.metrics if metric not in row.ours]
        if missing:
            raise _NotRunError(f"{number.table}: {number.method!r} has no {', '.join(missing)}")
        known = all(metric in row.errors for metric in number.metrics)
        return (
            statistics.fmean(row.ours[metric] for metric in number.metrics),
            statistics.fmean(row.errors[metric] for metric in number.metrics) if known else None,
        )


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A claim's two numbers with one seed."""

    left: float
    right: float
    errors: tuple[float | None, float | None]  # of left and right over what was tested
    span: float
    row: tables.Row  # of left
    remark: str  # which row stands for another


def _measure(claim: Claim, seed: Numbers) -> _Measured:
    (left, left_error), (right, right_error) = seed.value(claim.left), seed.value(claim.right)
    span = 1.0
    if claim.span is not None:
        span = seed.value(claim.span[0])[0] - seed.value(claim.span[1])[0]
    used = [
        (number, seed.row(number).method)
        for number in (claim.left, claim.right)
        if isinstance(number, Number) and number.instead
    ]
    remark = "; ".join(
        f"row {used!r} for {number.method!r}" for number, used in used if used != number.method
    )
    return _Measured(left, right, (left_error, right_error), span, seed.row(claim.left), remark)


def _over_seeds(values: Sequence[float]) -> float:
    """Returns the standard error of a mean over seeds, 0 for one seed, which says nothing of it."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _over_test(errors: Sequence[float | None]) -> float:
    """Returns the mean test error: seeds share the test set, so it does not shrink with them."""
    known = [error for error in errors if error is not None]
    return statistics.fmean(known) if known else 0.0


# --- Verdicts -------------------------------------------------------------------------------------
def decide(margin: float, error: float, tolerance: float | None = None) -> str:
    """Returns HOLDS, UNDECIDED or FAILS.

    Args:
        margin: by how much the first number is above the second.
        error: standard error of `margin`.
        tolerance: None if `margin` is claimed to be above 0; else the largest absolute difference
            of what is claimed to be equal: that holds if all within NUM_ERRORS errors of `margin`
            is inside, and does not if all of it is outside.
    """
    reach = NUM_ERRORS * error
    inside = margin if tolerance is None else tolerance - abs(margin)
    if inside > reach or (tolerance is not None and inside == reach):
        return HOLDS
    return FAILS if inside < -reach else UNDECIDED


def _margin(claim: Claim, one: _Measured) -> float:
    return one.left + claim.slack - claim.factor * one.right


def _tolerance(claim: Claim, span: float) -> float | None:
    return None if claim.within is None else claim.within * max(0.0, span)


def _means(
    claim: Claim, ran: Sequence[_Measured]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Returns left, right and margin of each seed, and the standard errors of their means."""
    values = {
        "left": [one.left for one in ran],
        "right": [one.right for one in ran],
        "margin": [_margin(claim, one) for one in ran],
    }
    left, right = (_over_test([one.errors[i] for one in ran]) for i in (0, 1))
    test = {"left": left, "right": right, "margin": math.hypot(left, claim.factor * right)}
    return values, {key: math.hypot(_over_seeds(values[key]), test[key]) for key in values}


def check(claim: Claim, seeds: Sequence[Numbers]) -> tables.Row:
    """Checks one claim on the means over those seeds that have its numbers.

    Returns:
        A row with "left", "right" and "margin" and the standard error of each; its note begins
        with the outcome (also in `details["outcome"]`), or its status is not run.
    """
    ran, problems = [], []
    for seed in seeds:
        try:
            ran.append(_measure(claim, seed))
        except _NotRunError as error:
            problems.append(str(error))
    if not ran:
        return tables.Row("", claim.text, tables.NOT_RUN, note=f"{claim.source}; {problems[0]}")
    by_seed, errors = _means(claim, ran)
    ours = {key: statistics.fmean(values) for key, values in by_seed.items()}
    tolerance = _tolerance(claim, statistics.fmean(one.span for one in ran))
    outcome = decide(ours["margin"], errors["margin"], tolerance)
    remarks = [claim.source, *dict.fromkeys(one.remark for one in ran if one.remark)]
    if any(None in one.errors for one in ran):
        remarks.append("test error not known")
        if len(ran) == 1:  # then nothing is known about the error
            outcome, errors = UNDECIDED, {}
    first = outcome
    if len(seeds) > 1:
        outcomes = [
            decide(margin, 0.0, _tolerance(claim, one.span))
            for margin, one in zip(by_seed["margin"], ran, strict=True)
        ]
        first += f" (in favour: {outcomes.count(HOLDS)} of {len(ran)} seeds)"
    if problems:
        remarks.append(f"run with {len(ran)} of {len(seeds)} seeds")
    return tables.Row(
        ran[0].row.data,
        claim.text,
        tables.RUN,
        ours=ours,
        errors=errors,
        note="; ".join([first, *remarks]),
        details={"outcome": outcome, "tolerance": tolerance, "by_seed": by_seed},
    )


def make_table(seeds: Sequence[Numbers]) -> tables.Table:
    """Checks every claim on the numbers of each seed: a row per claim, the count as first note."""
    rows = [check(claim, seeds) for claim in CLAIMS]
    return tables.Table(
        "claims",
        "What the papers claim, on the data at hand",
        [
            tables.Metric("left", "first number", decimals=3),
            tables.Metric("right", "second number", decimals=3),
            tables.Metric("margin", "difference", decimals=3),
        ],
        rows,
        [
            count(rows),
            f"Means over {len(seeds)} seed(s), ± a standard error. First and second number: what "
            "the claim names first and second; accuracies and shares in per cent. Difference: "
            "first less second, the second times the factor where the claim has one, and what "
            "still counts as no difference added.",
            f"Undecided: the difference is within {NUM_ERRORS:g} of its standard errors (our "
            "choice; for few seeds that is less sure than 95 %); of numbers that should be equal, "
            "the difference with those errors is neither inside nor outside what counts as equal.",
            "Errors: over the seeds and over what was tested, which seeds share, so that it does "
            "not shrink with them. Those of two numbers are added as if independent, though both "
            "are of the same pairs or queries: the true one is smaller, so more is undecided here "
            "than need be.",
            "Not in this list, for nothing here can check it: humans a few percent above L3-Net "
            "(L3 §3.2), and comparisons with other authors' networks on ImageNet (L3 §3.4).",
        ],
    )


def count(rows: Sequence[tables.Row]) -> str:
    """Returns in one sentence how many claims hold, are undecided, do not hold, were not run."""
    of = Counter(row.details.get("outcome", tables.NOT_RUN) for row in rows)
    return (
        f"{len(rows)} claims: {of[HOLDS]} hold, {of[UNDECIDED]} undecided, "
        f"{of[FAILS]} do not hold, {of[tables.NOT_RUN]} not run."
    )


def group(of_seeds: Sequence[tables.Table]) -> list[Numbers]:
    """Returns the numbers of each seed: the first table of every name is the first seed's, ...

    Raises:
        UserError: if some table is there for fewer seeds than others, or there is none.
    """
    by_name: dict[str, list[tables.Table]] = {}
    for table in of_seeds:
        by_name.setdefault(table.name, []).append(table)
    counts = {name: len(named) for name, named in by_name.items()}
    if len(set(counts.values())) != 1:
        raise UserError(f"need every table once for each seed, at least one; got {counts}")
    number = next(iter(counts.values()))
    return [Numbers({name: named[i] for name, named in by_name.items()}) for i in range(number)]


def main(paths: Sequence[str], config: Config) -> None:
    """Reads the tables, reports the claims; with --strict fails if one does not hold."""
    if not paths:
        raise UserError("name the .json files of tables; see --help")
    table = make_table(group([tables.read_table(path)[0] for path in paths]))
    given = {"out_dir": config.out_dir, "tables": list(paths)}
    tables.write_table(table, config.out_dir, flags=given, seconds=0.0)
    sys.stdout.write(f"{count(table.rows)}\n")
    failed = [row.method for row in table.rows if row.details.get("outcome") == FAILS]
    if config.strict and failed:
        raise UserError(f"--strict: {len(failed)} claims do not hold: {'; '.join(failed)}")


if __name__ == "__main__":
    flags.run(main, Config, arguments=".json files of tables; of several seeds, every file.")
