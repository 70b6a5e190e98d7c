"""VGG-SS from its published list to the table: json and videos -> shards -> eval.localization."""

import json
import pathlib
import shutil

import pytest

from data_prep import datasets
from data_prep.av_digits import data_set
from data_prep.lists.dataset_rows import Request
from data_prep.lists.make_manifest import Config
from eval import localization
from eval.sets import sounding_frames
from l3net import constants, export, models
from l3net.errors import UserError
from l3net.inference import saved_model
from tests import tiny_training
from tests.conftest import make_video
from tests.tiny_folders import prepare
from tests.tiny_networks import save_tiny_run

VIDEOS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "videos"
# A white square in the right half, seen in the one second around 5.00 s; black before and after.
SQUARE = "color=black:s=96x64:r=25,drawbox=x=56:y=16:w=16:h=16:color=white:t=fill:enable={times}"
SQUARE_BOX = [56 / 96, 16 / 64, 72 / 96, 32 / 64]  # xmin, ymin, xmax, ymax
# Boxes over real frames, drawn by hand while looking at the picture at 5.00 s of each clip.
DRAWN = {
    "0B4dYTMsgHA_000130": ("child speech, kid speaking", [[0.47, 0.29, 0.61, 0.58]]),
    "difffoleCar_000000": ("race car, auto racing", [[0.46, 0.53, 0.60, 0.70]]),
    "foleycraft3_000003": ("playing tennis", [[0.68, 0.27, 0.81, 0.82]]),
    "ZNVhz7ctTq0_000002": ("dog barking", [[0.43, 0.56, 0.49, 0.71]]),
    "lipnetBbaf2_000000": ("male speech, man speaking", [[0.3, 0.3, 0.7, 0.7]]),  # 3 s long
}
REAL_NAMES = {
    "0B4dYTMsgHA_000130.mp4": "mmaudio__0B4dYTMsgHA_000130.mp4",
    "difffoleCar_000000.mp4": "diff-foley__car.mp4",
    "foleycraft3_000003.mp4": "foleycrafter__3.mp4",
    "ZNVhz7ctTq0.mp4": "video_features__v_ZNVhz7ctTq0.mp4",  # uncut: the clip begins at 2 s
    "lipnetBbaf2_000000.mpg": "lipnet__bbaf2n.mpg",
}


class WhereItIsBright:
    """Finds the brightest of 4 x 4 cells, whatever it hears."""

    frame_px = 64
    metadata = {"model_config": {"model": "avol_net"}}

    def localization(self):
        return lambda pairs: (
            pairs["image"].mean(axis=-1).reshape(-1, 4, 16, 4, 16).mean(axis=(2, 4)) / 255
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = models.ModelConfig(**{**vars(tiny_training.MODEL), "model": "avol_net"})
    run = save_tiny_run(tmp_path_factory.mktemp("run") / "avol", config=config)
    return saved_model.SavedModel(export.export(run))


def _prepare(folder: pathlib.Path, entries: dict) -> sounding_frames.FrameSet:
    """Goes the published way from vggss.json and videos/ in a folder to annotated frames."""
    content = [{"file": f, "class": name, "bbox": boxes} for f, (name, boxes) in entries.items()]
    (folder / "vggss.json").write_text(json.dumps(content))
    videos, manifest = folder / "videos", folder / "out" / "manifest.csv"
    request = Request(str(videos), (str(folder / "vggss.json"),))
    datasets.main(Config("vggss", str(manifest)), request, data_set.Config())
    prepare(
        manifest=manifest,
        videos_dir=videos,
        out_dir=folder / "shards",
        dataset_name="vggss",
        smallest_side_px=64,
        num_workers=1,
    )
    boxes = str(manifest.parent / "boxes.csv")
    return localization.FramesConfig(str(folder / "shards"), boxes).read()


def _table(model, frames, **config):
    return localization.make_table(model, frames, localization.JudgeConfig(**config))


def test_made_videos_and_a_published_list_give_hits(tmp_path):
    (tmp_path / "videos").mkdir()
    for name, start, seconds in (
        ("aaaaaaaaaaa_000030.mp4", 0, 5.6),  # cut: it begins with the clip
        ("bbbbbbbbbbb.mp4", 1, 6.6),  # uncut: its clip begins at 1 s
        ("ccccccccccc_000000.mp4", 0, 2.0),  # ends before the annotated picture
    ):
        # The last of the pictures before 5.00 s and the first after 5.04 s are black.
        times = f"'between(t,{start + 4.99},{start + 5.03})'"
        make_video(tmp_path / "videos" / name, picture=SQUARE.format(times=times), seconds=seconds)
    entries = {
        "aaaaaaaaaaa_000030": ("whistling", [SQUARE_BOX]),
        "bbbbbbbbbbb_000001": ("hail", [SQUARE_BOX, [0.0, 0.0, 0.05, 0.05]]),
        "ccccccccccc_000000": ("hail", [SQUARE_BOX]),
    }
    frames = _prepare(tmp_path, entries)
    for whole in (False, True):
        table = _table(WhereItIsBright(), frames, whole_frame=whole)
        centre, ours, _ = table.rows
        assert ours.data == "vggss, test, 2 frames"
        assert ours.ours["hits"] == 100 and centre.ours["hits"] == 0
        assert ours.ours["maximum"] > 0.3  # the picture of 5.00 s alone is not black
        assert ours.details["left_out"] == {sounding_frames.NO_FRAME: 1}
        assert "1 without a picture or sound at the annotated time" in table.notes[1]
    # Nothing but a clip that is too short: the message says why.
    boxes = sounding_frames.read_boxes(tmp_path / "out" / "boxes.csv")
    alone = {name: boxes[name] for name in boxes if name.startswith("ccc")}
    short = sounding_frames.from_shards(tmp_path / "shards", "test", alone)
    with pytest.raises(UserError, match="2 without a box; 1 without a picture .*VGG-SS: 5 s"):
        _table(WhereItIsBright(), short)


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="needs the real videos")
def test_boxes_drawn_over_real_frames_go_through_an_avol_net(tmp_path, network):
    (tmp_path / "videos").mkdir()
    for name, original in REAL_NAMES.items():
        shutil.copy(VIDEOS / original, tmp_path / "videos" / name)
    frames = _prepare(tmp_path, DRAWN)
    centre, ours, other = _table(network, frames).rows
    assert ours.data == "vggss, test, 4 frames"
    lines = {line["example_id"]: line for line in ours.details["frames"]}
    assert set(lines) == set(DRAWN) - {"lipnetBbaf2_000000"}
    assert [name for name in lines if lines[name]["centre_hit"]] == ["0B4dYTMsgHA_000130"]
    assert centre.ours["hits"] == 25
    # The tennis player's box begins at .68 of the width, the centre crop of 16:9 ends at .75.
    assert ours.details["num_unseen"] == 0
    assert other.status == "run" and all(line["mismatched"] for line in lines.values())
    (dog,) = [f for f in frames.read() if not isinstance(f, str) and "dog" in f.annotation.label]
    assert dog.waveform.shape == (constants.AUDIO_SAMPLES,) and dog.waveform.std() > 100
