"""The localization table, on pictures whose bright square is what sounds."""

import json

import absl.flags
import numpy as np
import pytest

from eval import localization
from eval.reporting.table_config import TableConfig
from eval.sets import sounding_frames
from l3net import export, flags, models
from l3net.errors import UserError
from l3net.inference import saved_model
from tests import tiny_shards, tiny_training
from tests.tiny_boxes import write_boxes
from tests.tiny_networks import save_tiny_network, save_tiny_run

# Ten clips; the square of clip k is in one of four corners, its class is "odd" or "even".
NUM_CLIPS, SIDE_PX = 10, 64
CORNERS = ((0.15, 0.15), (0.15, 0.6), (0.6, 0.15), (0.6, 0.6))


class FakeModel:
    """Finds the bright square if the sound's level is that of its class; else sees nothing."""

    frame_px = SIDE_PX
    metadata = {"model_config": {"model": "avol_net"}}

    def __init__(self, blind=False):
        self._blind = blind

    def localization(self):
        def localize(pairs):
            cells = pairs["image"].mean(axis=-1).reshape(-1, 4, 16, 4, 16).mean(axis=(2, 4))
            cells = 0.9 * cells / cells.max(axis=(1, 2), keepdims=True)
            odd_picture = pairs["image"].max(axis=(1, 2, 3)) > 220
            odd_sound = pairs["waveform"].mean(axis=1) > 0.25
            fits = odd_picture == odd_sound
            if self._blind:
                return np.zeros_like(cells) + 0.9
            # Mismatched: faint, and highest in the first cell.
            faint = np.zeros_like(cells)
            faint[:, 0, 0] = 0.2
            return np.where(fits[:, None, None], cells, faint)

        return localize


def _clip(number):
    """A clip of 1.2 s with a square of level 240 (odd) or 200; sound of level 0.5 (odd) or 0.1."""
    is_odd = number % 2
    picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    y, x = (round(SIDE_PX * side) for side in CORNERS[number % 4])
    picture[y : y + 16, x : x + 16] = 240 if is_odd else 200
    jpeg = tiny_shards.encode_jpeg(picture, quality=95)
    sound = np.full(57_600, 16_384 if is_odd else 3_277, np.int16)
    return tiny_shards.make_clip(
        number, seconds=1.2, size_px=(SIDE_PX,) * 2, frames=(jpeg,) * 30, waveform=sound
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotated")
    clips = [_clip(number) for number in range(1, NUM_CLIPS + 2)]
    tiny_shards.write_shards(folder / "shards", clips, split="test", name="demo")
    rows = []
    for number in range(1, NUM_CLIPS + 1):  # the last clip has no box
        y, x = CORNERS[number % 4]
        label = "odd" if number % 2 else "even"
        rows.append(f"clip{number:04d},15,0.60,{y},{x},{y + 0.25},{x + 0.25},{label}")
    write_boxes(folder / "boxes.csv", *rows)
    return folder


@pytest.fixture(scope="module")
def frames(folder):
    boxes = sounding_frames.read_boxes(folder / "boxes.csv")
    return sounding_frames.from_shards(folder / "shards", "test", boxes)


def _rows(model, frames, **config):
    return _by_method(localization.make_table(model, frames, localization.JudgeConfig(**config)))


def _by_method(table):
    return {row.method: row for row in table.rows}


def test_who_finds_the_square_and_who_looks_at_the_middle(frames):
    table = localization.make_table(FakeModel(), frames, localization.JudgeConfig())
    rows = _by_method(table)
    assert list(rows) == ["Image centre", "AVOL-Net", "AVOL-Net, sound of another class"]
    assert {row.data for row in table.rows} == {"demo data (synthetic), test, 10 frames"}
    assert rows["Image centre"].ours == {"hits": 0.0}
    assert not any(row.paper for row in table.rows)
    assert rows["Image centre"].errors == {"hits": 0.0}
    ours, details = rows["AVOL-Net"].ours, rows["AVOL-Net"].details
    assert ours["hits"] == 100 and ours["empty"] == 0 and ours["maximum"] == pytest.approx(0.9)
    assert details["tied"] == 0
    assert details["hits_95_percent"] == pytest.approx((72.25, 100), abs=0.1)
    assert details["left_out"] == {sounding_frames.NO_BOX: 1}
    assert any("1 without a box" in note for note in table.notes)


def test_papers_hits_beside_their_data_and_binomial_errors(folder, frames, monkeypatch):
    boxes = sounding_frames.read_boxes(folder / "boxes.csv")
    tiny_shards.write_shards(
        folder / "instruments",
        [_clip(number) for number in range(1, 5)],
        split="val",
        name="audioset_instruments",
    )
    papers = sounding_frames.from_shards(folder / "instruments", "val", boxes)
    rows = _rows(FakeModel(), papers)
    assert rows["Image centre"].paper == {"hits": 57.2} and rows["AVOL-Net"].paper == {"hits": 81.7}
    assert "paper: 500 clips" in rows["AVOL-Net"].note
    # With a sound of another class half of ten maps have it where they had it: 50 +- 15.8.
    other = _rows(FakeModel(), frames)["AVOL-Net, sound of another class"]
    share = other.ours["moved"] / 100
    assert other.errors["moved"] == pytest.approx(100 * (share * (1 - share) / 10) ** 0.5)


def test_the_sound_of_another_class_empties_and_moves_the_map(frames):
    rows = _rows(FakeModel(), frames)
    other = rows["AVOL-Net, sound of another class"].ours
    assert other["empty"] == 100 and other["maximum"] == pytest.approx(0.2)
    # The faint maximum is the first cell, which is where some squares are.
    assert other["hits"] < 50 < other["moved"] <= other["empty_or_moved"]
    assert "moved" not in rows["AVOL-Net"].ours


def test_a_network_that_ignores_the_sound_is_noticed(frames):
    rows = _rows(FakeModel(blind=True), frames)
    own, other = rows["AVOL-Net"].ours, rows["AVOL-Net, sound of another class"].ours
    assert other["moved"] == other["empty"] == 0 and own["hits"] == other["hits"]
    # Its maps are flat, which the table reports; their upper half is everything: 1/16 is the box.
    details = rows["AVOL-Net"].details
    assert details["tied"] == 100
    crop = 56 * 56  # 224/256 of 64 pixels
    assert details["mean_overlap"] == pytest.approx(16 * 16 / crop, rel=0.2)
    assert details["ciou"] == 0


def test_boxes_outside_of_the_crop_are_counted(folder):
    corner = sounding_frames.Annotation(0.6, np.array([[0.0, 0.0, 0.05, 0.05]]), "odd")
    boxes = sounding_frames.read_boxes(folder / "boxes.csv") | {"clip0001": [corner]}
    frames = sounding_frames.from_shards(folder / "shards", "test", boxes)
    for whole, num_unseen in ((False, 1), (True, 0)):
        rows = _rows(FakeModel(), frames, whole_frame=whole)
        assert rows["AVOL-Net"].details["num_unseen"] == num_unseen


def test_every_frame_is_in_the_json_and_the_draw_repeats(frames):
    first, again, other = (
        _rows(FakeModel(), frames, seed=seed)["AVOL-Net"].details["frames"] for seed in (0, 0, 1)
    )
    assert first == again and len(first) == len(other) == NUM_CLIPS
    assert {line["example_id"] for line in first} == {f"clip{k:04d}" for k in range(1, 11)}
    assert json.loads(json.dumps(first)) == first


def test_batches_and_a_small_pool_change_nothing_but_the_partners(frames, monkeypatch):
    complete = _rows(FakeModel(), frames)
    monkeypatch.setattr(localization, "_BATCH_SIZE", 3)
    monkeypatch.setattr(localization, "_POOL_SIZE", 4)
    parts = _rows(FakeModel(), frames)
    assert parts["AVOL-Net"].ours == complete["AVOL-Net"].ours
    assert parts["AVOL-Net, sound of another class"].ours["empty"] == 100


def test_another_sound_is_of_another_class_and_another_video():
    def frame(media_id, label, level):
        note = sounding_frames.Annotation(0.0, np.zeros((1, 4)), label)
        return sounding_frames.SoundingFrame("x", media_id, b"", np.full(3, level), note)

    pool = [frame("a", "drum", 1), frame("b", "drum", 2), frame("c", "harp", 3), frame("d", "", 4)]
    rng = np.random.default_rng(0)

    def drawn(one):
        return {int(localization._other(one, pool, rng)[0]) for _ in range(40)}

    assert drawn(pool[0]) == {3, 4}
    assert drawn(pool[3]) == {1, 2, 3}  # of unknown class: any other video
    assert localization._other(pool[0], pool[:2], rng) is None


def test_without_another_class_the_row_is_not_run_and_without_clips_nothing(folder):
    boxes = sounding_frames.read_boxes(folder / "boxes.csv")
    odd = {name: notes for name, notes in boxes.items() if notes[0].label == "odd"}
    frames = sounding_frames.from_shards(folder / "shards", "test", odd)
    row = _rows(FakeModel(), frames)["AVOL-Net, sound of another class"]
    assert row.status == "not run" and not row.ours
    frames = sounding_frames.from_shards(folder / "shards", "test", {"elsewhere": []})
    with pytest.raises(UserError, match=r"none of the annotated frames .*\(11 without a box\)"):
        _rows(FakeModel(), frames)


# --- The command ---------------------------------------------------------------------------------
def test_missing_flags_and_another_network_are_one_line(frames, tmp_path):
    for given in ((None, None, None), ("x", None, None), (None, "x", None), ("x", "z", "y")):
        with pytest.raises(UserError, match="^need --boxes and one of --shards and --media_dir"):
            localization.FramesConfig(*given).read()
    with pytest.raises(UserError, match="need --saved_model"):
        localization.main(
            TableConfig(), localization.FramesConfig(None), localization.JudgeConfig()
        )
    with pytest.raises(absl.flags.Error, match="consensus"):
        flags.parse(["--consensus=0"], localization.JudgeConfig)
    network = saved_model.SavedModel(save_tiny_network(tmp_path / "saved_model"))
    with pytest.raises(UserError, match="has no signature 'localize'"):
        _rows(network, frames)


def test_an_exported_avol_net_end_to_end(folder, tmp_path, capsys):
    config = models.ModelConfig(**{**vars(tiny_training.MODEL), "model": "avol_net"})
    exported = export.export(save_tiny_run(tmp_path / "run", config=config))
    table = TableConfig(saved_model=str(exported), out_dir=str(tmp_path / "out"))
    frames = localization.FramesConfig(str(folder / "shards"), str(folder / "boxes.csv"))
    localization.main(table, frames, localization.JudgeConfig())
    assert (tmp_path / "out" / "localization.md").read_text() == capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "localization.json").read_text())
    ours = record["rows"][1]
    assert ours["details"]["metadata"]["model_config"]["model"] == "avol_net"
    lines = ours["details"]["frames"]
    assert len(lines) == NUM_CLIPS and record["flags"]["consensus"] == 1
    # A map of 4 x 4 on the 56 of 64 pixels that are seen.
    middles = [round((4 + 7 + 14 * k) / 64, 4) for k in range(4)]
    assert all(side in middles for line in lines for side in line["matched"]["y_x"])
    # The map's maximum is the correspondence that `avc` gives.
    network = saved_model.SavedModel(exported)
    (frame, *_) = frames.read().read()
    pair = {
        "image": sounding_frames.decode(frame.jpeg, network.frame_px)[0][np.newaxis],
        "waveform": frame.waveform[np.newaxis].astype(np.float32) / 32768,
    }
    maxima = {line["example_id"]: line["matched"]["maximum"] for line in lines}
    assert network.localization()(pair).shape == (1, 4, 4)
    assert maxima[frame.example_id] == pytest.approx(network.correspondence()(pair)[0], abs=1e-3)
