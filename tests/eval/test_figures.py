import dataclasses

import numpy as np
import PIL.Image
import pytest
import sklearn.manifold
import soundfile

from eval.figures import __main__ as figures_command
from eval.figures import confusion, curves, drawings, embeddings, gallery, heat_maps, units
from eval.figures.clip_source import ClipSource
from eval.reporting import tables
from eval.reporting.table_config import TrainedAndRandomConfig
from eval.sets import sounding_frames
from eval.sets.sounding_frames import Annotation
from l3net import constants
from l3net.errors import UserError
from tests.tiny_clips import read_items

NUM_UNITS = 6
FRAME_PX = 32
ROWS, COLUMNS = 2, 2  # of conv4_2's and the localizer's maps


class FakeNetwork:
    """Units that respond to colours and to levels; "AVOL-Net" sees red."""

    metadata = {"model_config": {"spectrogram_average": 2}, "weights": "fake"}
    frame_px = FRAME_PX
    inputs = (constants.FRAME, constants.LOG_SPECTROGRAM)

    def features(self, signature, output):
        def run(batch):
            if signature == "vision":
                cells = batch.reshape(len(batch), ROWS, FRAME_PX // ROWS, COLUMNS, -1, 3)
                maps = np.tile(cells.mean(axis=(2, 4)) / 255, 2)
            else:
                cells = np.abs(batch[:, : 48000 // 4 * 4]).reshape(len(batch), ROWS, COLUMNS, -1)
                maps = np.stack([cells.mean(-1) * k for k in range(NUM_UNITS)], axis=-1)
            maps = maps.astype(np.float32)
            return maps if output == "conv4_2_map" else maps.max(axis=(1, 2))

        return run

    def localization(self):
        def run(pairs):
            cells = pairs["image"].reshape(-1, ROWS, FRAME_PX // ROWS, COLUMNS, FRAME_PX // 2, 3)
            return cells.mean(axis=(2, 4))[..., 0] / 255

        return run


@pytest.fixture
def source(tiny_shards, tmp_path):
    return ClipSource(tiny_shards, "train", "tiny", 0, tmp_path / "cache")


# --- Which units ---------------------------------------------------------------------------------
def test_a_unit_is_named_by_the_class_of_most_of_its_top_five():
    activations = np.array([[5, 1, 4, 3, 2, 0]], float).T
    (unit,) = units.choose_units(activations, np.array(list("abaabb")), 9)
    assert unit == units.Unit(0, "a", 3, (0, 2, 3, 4, 1))
    # Items that do not excite it do not count.
    activations = np.array([[1, 0, 0, 0, 0, 0]], float).T
    assert units.choose_units(activations, np.array(list("aaaaab")), 9) == []


def test_each_class_has_one_unit_the_purest_first():
    classes = np.array(list("aaaaabbbbb"))
    a_unit = np.array([9, 8, 7, 6, 5, 0, 0, 0, 0, 0.0])
    b_unit = np.array([9, 0, 0, 0, 0, 8, 7, 6, 5, 0.0])
    mixed = np.array([9, 8, 7, 0, 0, 6, 5, 0, 0, 0.0])
    chosen = units.choose_units(np.stack([mixed, b_unit, a_unit], axis=1), classes, 9)
    named = [(one.index, one.title, one.num_of_class) for one in chosen]
    assert named == [(2, "a", 5), (1, "b", 4)]


def test_without_classes_the_most_outstanding_units_come_first():
    flat = np.random.default_rng(0).random(100)
    peaked = np.where(np.arange(100) < 5, 10.0, flat)
    chosen = units.choose_units(np.stack([np.zeros(100), flat, peaked], axis=1), None, 9)
    assert [one.index for one in chosen] == [2, 1]
    assert sorted(chosen[0].items) == [0, 1, 2, 3, 4]


# --- Drawings ------------------------------------------------------------------------------------
def images_of(drawing) -> list[np.ndarray]:
    """Every picture in a figure but colour bars."""
    axes = [one for one in drawing.figure.axes if one.get_label() != "<colorbar>"]
    return [np.asarray(image.get_array()) for one in axes for image in one.get_images()]


def test_units_show_the_frames_and_play_the_sounds_that_excite_them(tiny_shards, source):
    drawn = units.draw(FakeNetwork(), source)
    assert [one.subject.name for one in drawn] == [
        "units_vision", "units_vision_heat_maps", "units_audio", "units_audio_heat_maps",
    ]  # fmt: skip
    vision, maps, audio, audio_maps = drawn
    assert "tiny, train" in vision.figure.get_suptitle()
    images, shown = _items(tiny_shards).images, images_of(vision)
    assert all(any(np.array_equal(image, one) for one in images) for image in shown)
    assert len(images_of(maps)) == len(shown) >= 4
    # Four clips: every column holds them all, the sounds one after the other.
    assert audio.sounds and all(len(sound.waveform) == 4 * 48000 for sound in audio.sounds)
    left = [one for one in audio_maps.figure.axes if one.get_ylabel() == "frequency, Hz"]
    assert left and all(one.get_images()[0].get_extent()[3] >= 24000 for one in left)


def test_without_labels_units_have_numbers_for_titles(source):
    source = dataclasses.replace(source, has_labels=False)
    vision = units.draw(FakeNetwork(), source)[0]
    titles = {one.get_title() for one in vision.figure.axes} - {""}
    assert titles == {f"unit {index}" for index in range(NUM_UNITS)}
    assert vision.subject.source == "L3 Fig. 5 and 6" and "no label was used" in vision.caption


def test_tsne_shows_every_labelled_item_and_a_legend(source):
    drawing = embeddings.draw({"trained": FakeNetwork(), "random": FakeNetwork()}, source)
    assert [one.get_title() for one in drawing.figure.axes] == [
        "(a) trained, audio", "(b) random, audio", "(c) trained, vision", "(d) random, vision",
    ]  # fmt: skip
    for one in drawing.figure.axes:
        assert sum(len(points.get_offsets()) for points in one.collections) == 4
    (legend,) = drawing.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["high", "low"]
    assert "50 principal components, perplexity 30" in drawing.caption


def test_tsne_keeps_groups_together():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 8)) * 10
    rows = np.concatenate([centre + rng.normal(size=(20, 8)) for centre in centres])
    laid_out = embeddings.tsne(rows.astype(np.float32), seed=0)
    middles = laid_out[:20].mean(axis=0), laid_out[20:].mean(axis=0)
    own = np.linalg.norm(laid_out - np.repeat(middles, 20, axis=0), axis=1)
    other = np.linalg.norm(laid_out - np.repeat(middles[::-1], 20, axis=0), axis=1)
    assert (own < other).all()


@pytest.mark.parametrize(
    ("shape", "components", "perplexity"),
    [((120, 60), 50, 30), ((40, 60), 40, 13), ((91, 6), 6, 30)],
)
def test_tsne_settings_are_those_of_the_readings(monkeypatch, shape, components, perplexity):
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 7
    asked, defaults = {}, sklearn.manifold.TSNE().get_params()

    class Spy(sklearn.manifold.TSNE):
        def fit_transform(self, rows):
            asked.update(self.get_params(), rows=rows)
            return rows[:, :2]

    monkeypatch.setattr(sklearn.manifold, "TSNE", Spy)
    embeddings.tsne(features, seed=5)
    rows = asked.pop("rows")
    # Of unit length before the 50 principal components, which are centred.
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)[:components]
    assert rows.shape == (len(features), components)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=0)[:5], singular[:5], rtol=1e-3)
    assert asked == {**defaults, "perplexity": perplexity, "random_state": 5}


def test_tsne_takes_the_classes_with_most_items():
    both = {"vision": np.array(list("aabbc")), "audio": np.array(["a", "b", "", "", "c"])}
    assert embeddings.choose_classes(both, 2) == ["a", "b"]


def test_retrieval_never_shows_the_query_again(source):
    drawing = gallery.draw(FakeNetwork(), source)
    # Four clips: a query and the three others, for three queries of four kinds.
    assert len(images_of(drawing)) == 4 * 3 * 4
    columns: dict[tuple, list] = {}
    for one in drawing.figure.axes:
        if one.get_images():
            column = (id(one.get_figure(root=False)), one.get_subplotspec().colspan.start)
            columns.setdefault(column, []).append(one.get_images()[0].get_array())
    assert len(columns) == 12
    for query, *retrieved in columns.values():
        assert len(retrieved) == 3 and not any(np.array_equal(query, one) for one in retrieved)
    # Of image to image nothing is heard.
    assert {sound.title.split(":")[0] for sound in drawing.sounds} == {
        "image to sound", "sound to image", "sound to sound",
    }  # fmt: skip
    features = {"vision": np.eye(3, dtype=np.float32)[[0, 0, 1]]}
    features["vision"][1] = [0.8, 0.6, 0.0]
    assert gallery._retrieved(features, "vision", "vision", 2) == [1, 0]


def frames_of(tiny_shards, box_side):
    names = enumerate(_items(tiny_shards).example_ids)
    box = np.array([[0.0, 0.0, box_side, box_side]])
    boxes = {name: [Annotation(1.0, box, f"class {number % 2}")] for number, name in names}
    return heat_maps.first_frames(sounding_frames.from_shards(tiny_shards, "train", boxes))


def _items(tiny_shards):
    return read_items(tiny_shards, "train", frame_px=FRAME_PX, seed=0)


@pytest.mark.parametrize(("box_side", "word"), [(1.0, "hit"), (0.01, "MISS")])
def test_localization_shows_hits_and_misses(tiny_shards, box_side, word):
    localizer = heat_maps.Localizer(FakeNetwork())
    frames = frames_of(tiny_shards, box_side)
    drawing = heat_maps.draw_localization(localizer, frames, "tiny", seed=0)
    words = [one.get_title() for one in drawing.figure.axes if one.get_title() in ("hit", "MISS")]
    assert set(words) == {word}
    assert f"{len(words) if word == 'hit' else 0} of 4 frames" in drawing.caption
    assert len(drawing.sounds) == len(words)


def test_one_frame_gets_several_sounds(tiny_shards):
    frames = frames_of(tiny_shards, 1.0)
    drawing = heat_maps.draw_sounds(heat_maps.Localizer(FakeNetwork()), frames, "tiny", seed=0)
    titles = [one.get_title() for one in drawing.figure.axes]
    assert sum(title.startswith("frame: ") for title in titles) == 4
    assert sum("maximum" in title for title in titles) == 8  # its own, and the other class's
    assert drawing.figure.axes[-1].get_ylabel() == "probability of correspondence"


def test_a_video_is_shown_second_by_second(source):
    drawing = heat_maps.draw_video(heat_maps.Localizer(FakeNetwork()), source)
    titles = [one.get_title() for one in drawing.figure.axes]
    assert titles.count("0.5 s") == 4 and titles.count("1.5 s") == 4
    assert len(drawing.sounds) == 4


def table2(confusion_counts) -> tables.Table:
    details = {"confusion": confusion_counts, "classes": ["dog, hound", "rain"]}
    row = tables.Row("made up", "Ours", tables.RUN, ours={"accuracy": 75.0}, details=details)
    return tables.Table("table2", "Table 2", [tables.Metric("accuracy", "accuracy %")], [row])


def curves_table(accuracy) -> tables.Table:
    details = {"accuracy": accuracy, "batch_size": 64}
    row = tables.Row("made up", "ave_net", tables.RUN, details=details)
    return tables.Table("learning_curves", "T", [], [row])


def test_confusion_is_in_per_cent_of_the_true_class():
    drawing = confusion.draw(table2([[3, 1], [0, 2]]))
    axes = drawing.figure.axes[0]
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), [[75, 25], [0, 100]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["dog", "rain"]
    with pytest.raises(UserError, match='no row "SVM-MFCC"'):
        confusion.draw(table2([[3, 1], [0, 2]]), "SVM-MFCC")


def test_learning_curves_are_per_cent_over_thousands_of_pairs():
    (axes,) = curves.draw(curves_table({"500": 0.5, "1000": 0.75})).figure.axes
    line = axes.lines[0]
    assert list(line.get_xdata()) == [32.0, 64.0] and list(line.get_ydata()) == [50.0, 75.0]
    assert axes.get_xlabel() == "pairs seen, thousands" and "made up" in axes.get_title()
    with pytest.raises(UserError, match='"Ours" has no learning curve'):
        curves.draw(table2([[1]]))


# --- The command ---------------------------------------------------------------------------------
def test_what_was_not_given_is_listed_as_not_run(tiny_shards, tmp_path):
    given = str(tables.write_table(curves_table({"5": 0.5}), tmp_path, flags={}, seconds=0))
    common = TrainedAndRandomConfig(shards=str(tiny_shards), out_dir=str(tmp_path))
    with pytest.raises(UserError, match="nothing could be drawn: no --learning_curves was given"):
        figures_command.main(common, figures_command.Config(split="train"))
    figures_command.main(common, figures_command.Config(split="train", learning_curves=given))
    not_run = [one for one in drawings.read_list(tmp_path)["figures"] if one["status"] == "not run"]
    assert {entry["name"]: entry["caption"] for entry in not_run} == {
        **dict.fromkeys((subject.name for subject in units.SUBJECTS), "no --saved_model was given"),
        "tsne": "no --saved_model was given",
        "confusion": "no --table2 was given",
        "retrieval": "no --ave_saved_model was given",
        "localization": "no --boxes was given",
        "sounds": "no --boxes was given",
        "video": "no --avol_saved_model was given",
    }
    assert (tmp_path / "curves.pdf").is_file()


# --- Files ---------------------------------------------------------------------------------------
def test_a_drawing_is_written_as_png_pdf_and_sound(tmp_path):
    figure = drawings.new_figure(2, 2)
    figure.subplots().plot([1, 2])
    wave = np.linspace(-0.5, 0.5, 4800, dtype=np.float32)
    subject, sounds = drawings.Subject("x", "X", "L3 Fig. 0"), [drawings.Sound("s", wave)]
    entry = drawings.write(drawings.Drawing(subject, "words", figure, sounds), tmp_path)
    assert PIL.Image.open(tmp_path / entry["png"]).size == (300, 300)
    assert (tmp_path / entry["pdf"]).read_bytes().startswith(b"%PDF")
    heard, rate = soundfile.read(tmp_path / entry["sounds"][0]["path"])
    assert rate == 48000
    np.testing.assert_allclose(heard, wave, atol=1 / 32768)
    with pytest.raises(UserError, match="make figures"):
        drawings.read_list(tmp_path)
    missing = drawings.not_run(drawings.Subject("y", "Y", "L3"), "why")
    drawings.write_list([entry, missing], tmp_path, seed=3)
    record = drawings.read_list(tmp_path)
    assert [one["status"] for one in record["figures"]] == ["drawn", "not run"]
    assert record["seed"] == 3 and record.keys() == {"figures", "seed"}
