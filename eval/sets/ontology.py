"""How alike two clips are by their labels: distances in AudioSet's ontology (OTS appendix).

The distance d of two classes is the shortest path between them over parent and child links, in
either direction: acoustic guitar to itself 0, to electric guitar 2, to drum 5. Their relevance is
20 - d; that of two clips is the highest over all pairs of a label of one and a label of the other.

The ontology is no tree: 38 of AudioSet's 632 classes have several parents, and only through them
are its seven top classes connected. No further root is put above those (our choice; with one, no
path would be longer than 11, without, the longest is 21). Where the paper's 20 comes from it does
not say. Relevance never falls below 0 (our choice): d = 21, and classes that no path joins, count
as 0.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from l3net.data.list_files import ontology_nodes
from l3net.errors import UserError

MAX_RELEVANCE = 20  # at distance 0
NUM_LEVELS = MAX_RELEVANCE + 1

# Parent -> children: the part of AudioSet's ontology that holds the demo data's labels and every
# shortest path between them, by AudioSet's class names.
BUILT_IN = {
    "Sounds of things": ("Bell", "Tools"),
    "Tools": ("Hammer", "Power tool", "Sawing"),
    "Power tool": ("Drill",),
    "Musical instrument": (
        "Accordion",
        "Bell",
        "Bowed string instrument",
        "Brass instrument",
        "Harp",
        "Keyboard (musical)",
        "Percussion",
        "Plucked string instrument",
        "Wind instrument, woodwind instrument",
    ),
    "Bell": ("Church bell",),
    "Bowed string instrument": ("Violin, fiddle",),
    "Brass instrument": ("Trumpet",),
    "Keyboard (musical)": ("Organ",),
    "Percussion": ("Cymbal", "Drum", "Mallet percussion"),
    "Cymbal": ("Hi-hat",),
    "Drum": ("Snare drum",),
    "Mallet percussion": ("Marimba, xylophone",),
    "Plucked string instrument": ("Guitar",),
    "Guitar": ("Acoustic guitar",),
    "Wind instrument, woodwind instrument": ("Flute",),
}


class Ontology:
    """Classes and the links between them; a label is a class's id or its name."""

    def __init__(
        self,
        children: Mapping[str, Iterable[str]],
        *,
        names: Mapping[str, str] | None = None,
        source: str = "the built-in part of AudioSet's ontology",
    ):
        """Links parents and children.

        Args:
            children: id of a class -> ids of its children.
            names: id -> name; None if the ids are the names.
            source: what messages call it.
        """
        self._source = source
        links = [(parent, child) for parent, listed in children.items() for child in listed]
        ids = dict.fromkeys([*children, *(child for _, child in links)])
        self._index = {label: position for position, label in enumerate(ids)}
        rows = [self._index[parent] for parent, _ in links]
        columns = [self._index[child] for _, child in links]
        shape = (len(ids), len(ids))
        self._links = scipy.sparse.csr_matrix((np.ones(len(links)), (rows, columns)), shape=shape)
        self._index |= {name: self._index[label] for label, name in (names or {}).items()}

    def distances(self, labels: Sequence[str]) -> np.ndarray:
        """Returns the number of links on the shortest path between any two labels.

        Returns:
            float64 [num_labels, num_labels]; infinite where no path joins two labels.

        Raises:
            UserError: if a label is not in the ontology.
        """
        unknown = sorted({label for label in labels if label not in self._index})
        if unknown:
            raise UserError(
                f"{len(unknown)} label(s) such as {unknown[0]!r} are not in {self._source}; "
                "give AudioSet's ontology.json that has them: --ontology=PATH"
            )
        indices = [self._index[label] for label in labels]
        paths = scipy.sparse.csgraph.shortest_path(
            self._links, directed=False, unweighted=True, indices=indices
        )
        return paths[:, indices]

    def distance(self, label: str, other: str) -> float:
        """Returns the distance of two labels, see `distances`."""
        return float(self.distances([label, other])[0, 1])


def read_ontology(path: str | pathlib.Path | None) -> Ontology:
    """Reads AudioSet's ontology.json; None gives the built-in part that the demo data needs.

    Raises:
        UserError: if the file cannot be read, or is no such ontology.
    """
    if path is None:
        return Ontology(BUILT_IN)
    nodes = ontology_nodes(path)
    children = {node.id: node.child_ids for node in nodes}
    names = {node.id: node.name for node in nodes}
    return Ontology(children, names=names, source=str(path))


# --- Clips ---------------------------------------------------------------------------------------
class Relevance:
    """Relevance between labelled clips, computed by distinct sets of labels, only where needed.

    Attributes:
        set_of: int64 [num_clips], which distinct set of labels a clip has.
        num_sets: number of distinct sets.
    """

    def __init__(self, ontology: Ontology, labels: Sequence[Sequence[str]]):
        """Looks up each clip's labels; memory grows with labels x sets, not with clips squared.

        Raises:
            UserError: if a label is not in the ontology.
            ValueError: if a clip has no label.
        """
        sets = [tuple(sorted(set(of_clip))) for of_clip in labels]
        if () in sets:
            raise ValueError(f"clip {sets.index(())} has no label")
        distinct = sorted(set(sets))
        number_of = {members: number for number, members in enumerate(distinct)}
        self.set_of = np.array([number_of[members] for members in sets], np.int64)
        self.num_sets = len(distinct)
        names = sorted({label for members in distinct for label in members})
        index = {name: number for number, name in enumerate(names)}
        self._members = [np.array([index[name] for name in members]) for members in distinct]
        levels = np.maximum(0, MAX_RELEVANCE - ontology.distances(names)).astype(np.uint8)
        # From every label to every distinct set of labels.
        self._to_set = np.stack([levels[:, m].max(axis=1) for m in self._members], axis=1)

    def between(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the relevance of some clips to some queries.

        Args:
            queries: int [num_queries], indices of clips.
            items: int [num_queries, num_items], indices of clips, others for each query.

        Returns:
            uint8 [num_queries, num_items], 0 to MAX_RELEVANCE.
        """
        sets = self.set_of[queries]
        counts = np.array([len(self._members[number]) for number in sets])
        relevance = np.zeros(items.shape, np.uint8)
        for position in range(counts.max(initial=0)):
            rows = np.flatnonzero(counts > position)
            label = np.array([self._members[number][position] for number in sets[rows]])
            levels = self._to_set[label[:, None], self.set_of[items[rows]]]
            relevance[rows] = np.maximum(relevance[rows], levels)
        return relevance

    def histograms(self) -> np.ndarray:
        """Counts, for each distinct set of labels, the clips of each relevance to it.

        Returns:
            int64 [num_sets, NUM_LEVELS]; each row adds up to the number of clips.
        """
        num_clips = np.bincount(self.set_of, minlength=self.num_sets)
        counts = np.empty((self.num_sets, NUM_LEVELS), np.int64)
        for number, members in enumerate(self._members):
            relevance = self._to_set[members].max(axis=0)  # every distinct set's to this one
            counts[number] = np.bincount(relevance, num_clips, NUM_LEVELS)
        return counts
