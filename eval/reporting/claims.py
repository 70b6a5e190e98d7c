"""Checks what the papers claim, as orderings, against the numbers of our tables.

    python -m eval.reporting.claims --out_dir=runs/demo runs/demo/*.json

The papers' numbers belong to data that is not here; what the method must show anywhere is which
network is better. The tables are those of eval's commands; of several seeds, give every file: a
claim holds if it does for the means. Exit status 1 if one fails, or could not be checked.

Where a paper says "equal", "well above" or "at chance", `CLAIMS` says what that means here (our
choice).
"""

import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence

from eval.reporting import tables
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting

AVC, SOUND, IMAGENET, CLUSTERS = "avc_accuracy", "table2", "table3", "table4"
RETRIEVAL, LOCALIZATION = "retrieval", "localization"
L3, AVE, NAIVE = "L3-Net, as in OTS", "AVE-Net", "AVE-Net, no shortcut prevention"
CROSS, EVERY = ("im_aud", "aud_im"), ("im_im", "im_aud", "aud_im", "aud_aud")
HOLDS, FAILS = "holds", "FAILS"


@dataclasses.dataclass(frozen=True)
class Config:
    """The papers' claims."""

    out_dir: str = setting("runs/demo", "Folder for claims.json and claims.md.")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number in our tables, the mean of some metrics of a row."""

    table: str
    method: str
    metrics: tuple[str, ...]
    data_ends: str = ""  # how the row's data must end, where a table has several of a method


@dataclasses.dataclass(frozen=True)
class Claim:
    """left >= factor * right, or, with `within`, |left - right| <= within * span."""

    text: str  # what is claimed
    source: str  # paper and section
    left: Number
    right: Number | float
    factor: float = 1.0
    strict: bool = True  # whether equal numbers fail
    within: float | None = None  # largest difference of what should be equal, in units of `span`
    span: tuple[Number, Number] | None = None  # two numbers whose difference is it; None is 1


def _avc(method: str) -> Number:
    return Number(AVC, method, ("accuracy",))


def _ndcg(method: str, *directions: str) -> Number:
    return Number(RETRIEVAL, method, directions)


def _trained_above_random(what: str, source: str, table: str, metric: str, ends: str = "") -> Claim:
    ours, untrained = (Number(table, name, (metric,), ends) for name in ("Ours", "Ours random"))
    return Claim(f"{what}: trained above random network", source, ours, untrained)


def _clusters(what: str, ends: str) -> list[Claim]:
    ours, untrained = (Number(CLUSTERS, name, ("nmi",), ends) for name in ("Ours", "Ours random"))
    text = f"NMI, {what}: trained at least 1.5 times the random network's"
    units = [
        (f"Classes with a unit, {count} of 5, {what}", f"units_{count}_of_5") for count in (4, 3)
    ]
    return [
        _trained_above_random(f"NMI, {what}", "L3 Table 4", CLUSTERS, "nmi", ends),
        Claim(text, "L3 Table 4", ours, untrained, factor=1.5, strict=False),
        *(_trained_above_random(text, "L3 §3.5.3", CLUSTERS, key, ends) for text, key in units),
    ]


def _not_below(text: str, source: str, left: Number, right: Number) -> Claim:
    return Claim(text, source, left, right, strict=False)


TABLE1 = "OTS Table 1"
L3_CROSS, CCA_CROSS = _ndcg("L3-Net", *CROSS), _ndcg("L3-Net with CCA", *CROSS)
AVE_CROSS, CHANCE_CROSS = _ndcg(AVE, *CROSS), _ndcg("Random chance", *CROSS)
AVOL_HITS, CENTRE_HITS = (
    Number(LOCALIZATION, method, ("hits",)) for method in ("AVOL-Net", "Image centre")
)
EMPTY_OR_MOVED = Number(LOCALIZATION, "AVOL-Net, sound of another class", ("empty_or_moved",))
CLAIMS = (
    Claim("L3-Net's AVC above chance", "L3 Table 1", _avc(L3), 50.0),
    _not_below(
        "L3-Net's AVC not below supervised direct",
        "L3 Table 1",
        _avc(L3),
        _avc("Supervised direct"),
    ),
    _trained_above_random("Sounds classified", "L3 Table 2", SOUND, "accuracy"),
    _trained_above_random("Images classified", "L3 Table 3", IMAGENET, "accuracy"),
    *_clusters("vision", "frames"),
    *_clusters("audio", "sounds"),
    _not_below("AVE-Net's AVC not below L3-Net's", "OTS §3.1", _avc(AVE), _avc(L3)),
    # Features that were never aligned rank classes in some fixed wrong order, which may be better
    # or worse than chance: a quarter of the way to AVE-Net still counts as chance (our choice).
    Claim(
        "L3-Net's cross-modal retrieval at chance (our choice: a quarter of the way to AVE-Net)",
        TABLE1,
        L3_CROSS,
        CHANCE_CROSS,
        within=0.25,
        span=(AVE_CROSS, CHANCE_CROSS),
    ),
    Claim(
        "L3-Net with CCA well above L3-Net across modalities (our choice: 1.2 times; paper: 1.36)",
        TABLE1,
        CCA_CROSS,
        L3_CROSS,
        factor=1.2,
    ),
    Claim("AVE-Net above L3-Net with CCA across modalities", TABLE1, AVE_CROSS, CCA_CROSS),
    *(
        _not_below(
            f"AVE-Net's {direction.replace('_', '-')} retrieval not below L3-Net's",
            TABLE1,
            _ndcg(AVE, direction),
            _ndcg("L3-Net", direction),
        )
        for direction in ("im_im", "aud_aud")
    ),
    Claim("Without shortcut prevention AVC goes up", "OTS §3.3", _avc(NAIVE), _avc(AVE)),
    Claim(
        "Without shortcut prevention retrieval goes down (mean of four directions)",
        "OTS §3.3",
        _ndcg(AVE, *EVERY),
        _ndcg(NAIVE, *EVERY),
    ),
    Claim(
        "AVOL-Net's AVC equal to AVE-Net's (our choice: within 3 points)",
        "OTS §4.1",
        _avc("AVOL-Net"),
        _avc(AVE),
        within=3.0,
    ),
    Claim("AVOL-Net localizes better than the image centre", "OTS §4.1", AVOL_HITS, CENTRE_HITS),
    Claim("Mismatched sound empties or moves most maps", "OTS §4.1", EMPTY_OR_MOVED, 50.0),
)


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
        rows = [
            row
            for row in self._tables[number.table].rows
            if row.method == number.method
            and row.data.endswith(number.data_ends)
            and row.status == tables.RUN
        ]
        if not rows:
            raise _NotRunError(f"{number.table}: {number.method!r} was not run")
        if len(rows) > 1:
            raise UserError(
                f"table {number.table!r} has {len(rows)} rows {number.method!r} that were run; "
                "claims are checked on one data set at a time"
            )
        return rows[0]

    def value(self, number: Number | float) -> float:
        """Returns a number; see `row`."""
        if not isinstance(number, Number):
            return float(number)
        ours = self.row(number).ours
        missing = [metric for metric in number.metrics if metric not in ours]
        if missing:
            raise _NotRunError(f"{number.table}: {number.method!r} has no {', '.join(missing)}")
        return statistics.fmean(ours[metric] for metric in number.metrics)


def holds(claim: Claim, left: float, right: float, span: float = 1.0) -> bool:
    """Returns whether a claim holds for its two numbers and, if it has one, the unit `span`."""
    if claim.within is not None:
        return abs(left - right) <= claim.within * span
    bound = claim.factor * right
    return left > bound if claim.strict else left >= bound


def check(claim: Claim, seeds: Sequence[Numbers]) -> tables.Row:
    """Checks one claim on the means over seeds.

    Returns:
        A row with "left" and "right"; its note begins with HOLDS or FAILS, or its status is not
        run.
    """
    try:
        lefts, rights = ([seed.value(n) for seed in seeds] for n in (claim.left, claim.right))
        spans = [1.0] * len(seeds)
        if claim.span is not None:
            spans = [seed.value(claim.span[0]) - seed.value(claim.span[1]) for seed in seeds]
        data = seeds[0].row(claim.left).data
    except _NotRunError as error:
        return tables.Row("", claim.text, tables.NOT_RUN, note=f"{claim.source}; {error}")
    means = [statistics.fmean(values) for values in (lefts, rights, spans)]
    verdict = HOLDS if holds(claim, *means) else FAILS
    if len(seeds) > 1:
        count = sum(holds(claim, *values) for values in zip(lefts, rights, spans, strict=True))
        verdict += f" (in {count} of {len(seeds)} seeds)"
    return tables.Row(
        data,
        claim.text,
        tables.RUN,
        ours={"left": means[0], "right": means[1]},
        note=f"{verdict}; {claim.source}",
        details={"left": lefts, "right": rights, "spans": spans, "holds": verdict[:5] == HOLDS},
    )


def make_table(seeds: Sequence[Numbers]) -> tables.Table:
    """Checks every claim on the numbers of each seed: a row per claim."""
    return tables.Table(
        "claims",
        "What the papers claim, on the data at hand",
        [
            tables.Metric("left", "first number", decimals=3),
            tables.Metric("right", "second number", decimals=3),
        ],
        [check(claim, seeds) for claim in CLAIMS],
        [
            f"Means over {len(seeds)} seed(s). First and second number: what the claim names first "
            "and second; accuracies and shares in per cent."
        ],
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
    count = next(iter(counts.values()))
    return [Numbers({name: named[i] for name, named in by_name.items()}) for i in range(count)]


def verdict(table: tables.Table) -> str | None:
    """Returns in one line which claims do not hold, None if every claim does."""
    failed = [row.method for row in table.rows if not row.details.get("holds", True)]
    not_run = [row.method for row in table.rows if row.status == tables.NOT_RUN]
    if not failed and not not_run:
        return None
    return (
        f"{len(table.rows) - len(failed) - len(not_run)} of {len(table.rows)} claims hold; fail: "
        f"{'; '.join(failed) or 'none'}; not checked: {'; '.join(not_run) or 'none'}"
    )


def main(paths: Sequence[str], config: Config) -> None:
    """Reads the tables, checks the claims, fails if one does."""
    if not paths:
        raise UserError("name the .json files of tables; see --help")
    table = make_table(group([tables.read_table(path)[0] for path in paths]))
    given = {"out_dir": config.out_dir, "tables": list(paths)}
    tables.write_table(table, config.out_dir, flags=given, seconds=0.0)
    problem = verdict(table)
    if problem:
        raise UserError(problem)
    sys.stdout.write(f"All {len(table.rows)} claims hold.\n")


if __name__ == "__main__":
    flags.run(main, Config, arguments=".json files of tables; of several seeds, every file.")
