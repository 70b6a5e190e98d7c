"""The index on disk: what is found, what a killed process leaves, damage, clusters."""

import json
import pathlib

import numpy as np
import pytest

from l3net.errors import UserError
from l3net.inference import search_index
from l3net.inference.search_index import IMAGE, SOUND, SearchIndex

SIZE = 16


def unit(rng, num: int) -> np.ndarray:
    vectors = rng.standard_normal((num, SIZE)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def create(folder) -> SearchIndex:
    return SearchIndex.create(folder, fingerprint="a" * 64, size=SIZE, settings={"hop": 0.5})


def add(index, name: str, sound=None, image=None, **keywords):
    streams = [
        (modality, iter(np.array_split(rows, 2)), 0.5)
        for modality, rows in ((SOUND, sound), (IMAGE, image))
        if rows is not None
    ]
    keywords = {"sha256": f"of {name}", "kind": "video", **keywords}
    with index.adding() as adder:
        return adder.add(index.folder.parent / name, streams=streams, **keywords)


@pytest.fixture
def filled(tmp_path):
    """Ten files of 5 sounds and 3 images, and their vectors by file."""
    rng = np.random.default_rng(0)
    index, vectors = create(tmp_path / "idx"), {}
    for number in range(10):
        vectors[f"{number}.mp4"] = unit(rng, 5), unit(rng, 3)
        add(index, f"{number}.mp4", *vectors[f"{number}.mp4"])
    return index, vectors


def name_of(hit) -> str:
    return pathlib.PurePosixPath(hit.file.path).name


def by_hand(vectors, queries, modalities) -> list[tuple[float, str]]:
    """Returns (distance, file) of all files, the slow way."""
    found = []
    for name, rows in vectors.items():
        wanted = [r for r, m in zip(rows, (SOUND, IMAGE), strict=True) if m in modalities]
        apart = np.concatenate(wanted)[:, np.newaxis] - queries[np.newaxis]
        found.append((float(np.linalg.norm(apart, axis=2).min()), name))
    return sorted(found)


@pytest.mark.parametrize("modalities", [(SOUND,), (IMAGE,), (SOUND, IMAGE)])
@pytest.mark.parametrize("num_queries", [1, 4])
def test_files_come_by_their_nearest_row(filled, modalities, num_queries):
    index, vectors = filled
    queries = unit(np.random.default_rng(9), num_queries)
    for opened in (index, SearchIndex(index.folder)):
        hits = opened.query(queries, modalities=modalities, top=4)
        expected = by_hand(vectors, queries, modalities)[:4]
        assert [name_of(hit) for hit in hits] == [name for _, name in expected]
        np.testing.assert_allclose([h.distance for h in hits], [d for d, _ in expected], atol=1e-6)


def test_a_hit_tells_modality_time_and_query(filled):
    index, vectors = filled
    (hit,) = index.query(np.stack([-vectors["3.mp4"][0][0], vectors["3.mp4"][1][2]]), top=1)
    assert (name_of(hit), hit.modality, hit.time_seconds, hit.query_row) == ("3.mp4", IMAGE, 1.0, 1)
    assert hit.distance < 1e-6
    assert len(index.query(vectors["3.mp4"][0], top=100)) == 10
    hits = index.query(vectors["3.mp4"][0], top=100, without="of 3.mp4")
    assert len(hits) == 9 and "3.mp4" not in map(name_of, hits)


def test_vectors_are_a_npy_file(filled):
    index, vectors = filled
    loaded = np.load(index.folder / "vectors.npy", mmap_mode="r")
    np.testing.assert_array_equal(loaded, np.concatenate(sum(vectors.values(), ())))


def test_a_file_added_again_or_moved_replaces_the_old_one(filled):
    index, _ = filled
    new = unit(np.random.default_rng(5), 2)
    add(index, "3.mp4", new, sha256="changed")
    add(index, "moved.mp4", new, replaces=index.files[0].path)
    index = SearchIndex(index.folder)
    names = [pathlib.PurePosixPath(file.path).name for file in index.files]
    assert len(names) == 10 and "0.mp4" not in names and "moved.mp4" in names
    assert index.counts() == {SOUND: 8 * 5 + 4, IMAGE: 8 * 3}
    assert sorted(map(name_of, index.query(new, top=100))) == sorted(names)


def test_what_fails_half_way_leaves_the_index_as_it_was(filled):
    index, vectors = filled
    before = {p.name: p.read_bytes() for p in index.folder.iterdir()}

    def broken():
        yield unit(np.random.default_rng(0), 100)
        raise UserError("cut off")

    with pytest.raises(UserError, match="cut off"), index.adding() as adder:
        adder.add(pathlib.Path("x"), sha256="x", kind="sound", streams=[(SOUND, broken(), 0.5)])
    assert {p.name: p.read_bytes() for p in index.folder.iterdir()} == before


def test_what_a_killed_process_leaves_is_written_over(filled):
    index, vectors = filled
    with open(index.folder / "vectors.npy", "ab") as file:
        file.write(b"\xff" * 1000)  # rows without a line
    with open(index.folder / "files.jsonl", "ab") as file:
        file.write(b'{"path": "../half')
    index = SearchIndex(index.folder)
    assert len(index.files) == 10
    rows = unit(np.random.default_rng(3), 4)
    add(index, "new.mp4", rows)
    index = SearchIndex(index.folder)
    assert len(index.files) == 11
    (hit,) = index.query(rows[2:3], top=1)
    assert name_of(hit) == "new.mp4" and hit.time_seconds == 1.0 and hit.distance < 1e-6
    assert index.query(vectors["7.mp4"][0][:1], top=1)[0].distance < 1e-6


def test_one_process_adds_at_a_time(filled):
    index, _ = filled
    with (
        index.adding(),
        pytest.raises(UserError, match="another process"),
        SearchIndex(index.folder).adding(),
    ):
        pass


@pytest.mark.parametrize("name", ["index.json", "files.jsonl", "vectors.npy"])
def test_damage_is_told_and_touched_by_nobody(filled, name):
    index, _ = filled
    path = index.folder / name
    data = path.read_bytes()
    if name == "files.jsonl":
        path.write_bytes(b"{}\n" + data)
    else:
        path.write_bytes(data[: len(data) // 2])
    broken = path.read_bytes()
    with pytest.raises(UserError, match=f"{name}.*(damaged|cut off)"):
        SearchIndex(index.folder)
    assert path.read_bytes() == broken


def test_another_network_another_format_no_index(filled, tmp_path):
    index, _ = filled
    index.check_network("a" * 64)
    with pytest.raises(UserError, match="another network"):
        index.check_network("b" * 64)
    with pytest.raises(UserError, match="is no index"):
        SearchIndex(tmp_path / "none")
    with pytest.raises(UserError, match="no index of ours"):
        create(tmp_path)
    config = json.loads((index.folder / "index.json").read_text()) | {"format": 99}
    (index.folder / "index.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="format 99"):
        SearchIndex(index.folder)


def test_an_empty_index_finds_nothing(tmp_path):
    index = create(tmp_path / "idx")
    assert index.query(unit(np.random.default_rng(0), 1)) == []
    with index.adding():
        pass
    assert np.load(tmp_path / "idx" / "vectors.npy").shape == (0, SIZE)


# --- Clusters ------------------------------------------------------------------------------------
@pytest.fixture
def clustered(tmp_path, monkeypatch):
    """An index with clusters of sounds: 40 files of 100 rows, in 64 clusters."""
    pytest.importorskip("faiss")
    monkeypatch.setattr(search_index, "EXACT_ROWS", 1000)
    rng = np.random.default_rng(1)
    index = create(tmp_path / "idx")
    with index.adding() as adder:
        for number in range(40):
            streams = [(SOUND, [unit(rng, 100)], 0.5), (IMAGE, [unit(rng, 2)], 1.0)]
            path, sha256 = tmp_path / f"{number}.mp4", str(number)
            adder.add(path, sha256=sha256, kind="video", streams=streams)
    index.build_clusters()
    return index


def test_clusters_find_most_of_what_all_distances_find(clustered):
    assert [path.name for path in clustered.folder.glob("*.faiss")] == ["sound-4080.faiss"]
    queries = unit(np.random.default_rng(2), 20)
    shares = []
    for query in queries:
        exact = {name_of(hit) for hit in clustered.query(query[np.newaxis], exact=True)}
        near = clustered.query(query[np.newaxis])
        assert len(near) == 10 and near == sorted(near, key=lambda hit: hit.distance)
        shares.append(np.mean([name_of(hit) in exact for hit in near]))
    assert np.mean(shares) > 0.6  # vectors at random: no clusters to be found


def test_rows_outside_the_clusters_and_images_are_found(clustered):
    rows, images = unit(np.random.default_rng(3), 20), unit(np.random.default_rng(4), 1)
    add(clustered, "late.mp4", rows, images)
    clustered.build_clusters()  # so few that the clusters stay
    assert [path.name for path in clustered.folder.glob("*.faiss")] == ["sound-4080.faiss"]
    for vector in (rows[7], images[0], clustered.vectors()[50], clustered.vectors()[101]):
        assert clustered.query(vector[np.newaxis], top=1)[0].distance < 1e-6
    assert clustered.query(rows[:1], top=1, without="of late.mp4")[0].distance > 0.1
    assert len(clustered.query(rows[:1], top=1000)) == 41


def test_clusters_are_renewed_and_damaged_ones_are_not_used(clustered, caplog):
    add(clustered, "more.mp4", unit(np.random.default_rng(5), 600))
    clustered.build_clusters()
    (path,) = clustered.folder.glob("*.faiss")
    assert path.name == "sound-4680.faiss"
    path.write_bytes(path.read_bytes()[:1000])
    vector = clustered.vectors()[50:51]
    assert clustered.query(np.array(vector), top=1)[0].distance < 1e-6
    assert "damaged and not used" in caplog.text


def test_without_faiss_all_distances_are_computed(clustered, monkeypatch):
    monkeypatch.setattr(search_index, "_faiss", lambda: None)
    vector = np.array(clustered.vectors()[50:51])
    assert clustered.query(vector, top=3) == clustered.query(vector, top=3, exact=True)
    clustered.build_clusters()
