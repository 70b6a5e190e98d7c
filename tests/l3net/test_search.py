import contextlib
import functools
import json
import logging
import shutil
import sqlite3

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from PIL import Image

from l3net import constants, export, models, search
from l3net.errors import UserError
from l3net.flags import parse
from l3net.inference import file_features, file_search, saved_model, search_page
from l3net.inference.search_index import IMAGE, SOUND
from l3net.media import images, sound
from tests import conftest
from tests.tiny_networks import SMALLEST, save_tiny_run, write_metadata

RATE = constants.SAMPLE_RATE_HZ
NAMES = ("high.mp4", "low.mp4", "noise.png", "tone.wav")
LOAD = functools.cache(saved_model.SavedModel)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = models.ModelConfig("ave_net", **SMALLEST)
    return export.export(save_tiny_run(tmp_path_factory.mktemp("ave"), config=config))


@pytest.fixture(autouse=True)
def _load_once(monkeypatch):
    monkeypatch.setattr(saved_model, "SavedModel", LOAD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos, an image and a sound."""
    folder = tmp_path_factory.mktemp("own")
    for name, colour, pitch_hz in (("high", "red", 2000), ("low", "blue", 200)):
        picture = f"color={colour}:s=64x48:r=25,noise=alls=60:allf=t:all_seed={pitch_hz}"
        conftest.make_video(
            folder / f"{name}.mp4", picture=picture, sound=f"sine={pitch_hz}:r=48000"
        )
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    tone = np.sin(2 * np.pi * 600 * np.arange(3 * RATE) / RATE) * np.linspace(0, 0.9, 3 * RATE)
    soundfile.write(folder / "tone.wav", tone, RATE)
    return folder


class Workplace:
    """An index and what the commands need."""

    def __init__(self, index_dir, network, **settings):
        model = LOAD(network)
        entries = file_search.Entries(**settings)
        self.index, made_with = file_search.open_index(index_dir, model, entries, create=True)
        self.features = file_features.FileFeatures(model, made_with, 8)

    def add(self, *inputs):
        return file_search.add_files(self.index, self.features, inputs)

    def ask(self, path, *, start_seconds=None, query_modality=file_search.ANY, **keywords):
        query = file_search.make_query(
            self.features, path, start_seconds=start_seconds, modality=query_modality
        )
        return file_search.nearest_files(self.index, query, **keywords)


@pytest.fixture(scope="module")
def indexed(folder, network, tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("index") / "idx", network)
    assert place.add(folder) == ({"added": 4, "known": 0, "failed": 0}, [])
    return place


def names(results) -> list[str]:
    return [result["path"].rsplit("/", 1)[-1] for result in results]


def test_every_kind_of_file_gives_its_entries(indexed):
    rows = {}
    with contextlib.closing(sqlite3.connect(indexed.index.folder / "index.sqlite")) as db:
        for path, vectors, *part in db.execute(
            "SELECT path, vectors, modality, length(vectors) / 512, step_seconds FROM part JOIN "
            "file ON file.id = part.file ORDER BY part.id"
        ):
            rows.setdefault(path.decode().rsplit("/", 1)[-1], []).append(tuple(part))
            lengths = np.linalg.norm(np.frombuffer(vectors, "<f4").reshape(-1, 128), axis=1)
            np.testing.assert_allclose(lengths, 1, atol=1e-4)
    for name in ("high.mp4", "low.mp4"):
        assert rows[name] == [(SOUND, 3, 0.5), (IMAGE, 2, 1.0)]
    assert rows["noise.png"] == [(IMAGE, 1, 0.0)] and rows["tone.wav"] == [(SOUND, 5, 0.5)]


def test_the_same_content_is_added_once_and_a_moved_file_found(folder, network, tmp_path):
    place = Workplace(tmp_path / "idx", network)
    own = shutil.copytree(folder, tmp_path / "own")
    assert place.add(own / "noise.png", own / "tone.wav")[0]["added"] == 2
    shutil.copy(own / "noise.png", own / "copy.png")
    counts, _ = place.add(own)
    assert counts == {"added": 2, "known": 3, "failed": 0}
    (own / "tone.wav").rename(own / "moved.wav")
    assert Workplace(tmp_path / "idx", network).add(own / "moved.wav")[0]["added"] == 1
    place = Workplace(tmp_path / "idx", network)
    assert place.index.counts()["files"] == 4
    assert "moved.wav" in names(place.ask(own / "moved.wav", top=4))


def test_an_interrupted_run_goes_on(folder, network, tmp_path, monkeypatch):
    read = images.read_image

    def stop(*_):
        raise KeyboardInterrupt

    place = Workplace(tmp_path / "idx", network)
    monkeypatch.setattr(images, "read_image", stop)
    with pytest.raises(KeyboardInterrupt):
        place.add(folder)
    monkeypatch.setattr(images, "read_image", read)
    place = Workplace(tmp_path / "idx", network)
    assert place.index.counts()["files"] == 2
    assert place.add(folder)[0] == {"added": 2, "known": 2, "failed": 0}


def test_bad_files_do_not_stop_the_others(folder, network, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.mp4").write_text("no video at all")
    (bad / "b.png").write_text("no image")
    (bad / "c.wav").touch()
    (tmp_path / "empty").mkdir()
    mute = conftest.make_video(tmp_path / "mute.mp4", sound=None)
    dark = conftest.make_video(tmp_path / "dark.mp4", picture=None)
    place = Workplace(tmp_path / "idx", network)
    missing = tmp_path / "none.wav"
    counts, complaints = place.add(bad, tmp_path / "empty", missing, mute, dark)
    assert counts == {"added": 2, "known": 0, "failed": 5}
    said = "; ".join(complaints)
    for words in ("not_media", "not an image", "zero bytes", "holds no sound", "no such file"):
        assert words in said
    assert not any("\n" in complaint for complaint in complaints)
    assert place.index.counts() == {SOUND: 3, IMAGE: 2, "files": 2}
    assert Workplace(tmp_path / "idx", network).index.counts() == place.index.counts()


def test_a_file_finds_itself_and_may_be_left_out(indexed, folder):
    for name in NAMES:
        first, *others = indexed.ask(folder / name)
        assert names([first]) == [name] and first["own"] and first["distance"] < 1e-3
        assert len(others) == 3 and not any(other["own"] for other in others)
        assert names(indexed.ask(folder / name, exclude_self=True)) == names(others)


def test_distances_are_those_between_embeddings(indexed, folder):
    embed = LOAD(indexed.features.model._folder).features
    image = images.read_image(folder / "noise.png", indexed.features.model.frame_px)
    asked = embed("vision", "embedding")(image[np.newaxis])[0]
    blocks = np.concatenate(list(sound.sound_blocks(folder / "tone.wav")))
    windows = np.stack(list(sound.windows([blocks], hop=RATE // 2)))
    apart = np.linalg.norm(embed("audio", "embedding")(windows) - asked, axis=1)
    results = indexed.ask(folder / "noise.png", modality=SOUND)
    assert sorted(names(results)) == ["high.mp4", "low.mp4", "tone.wav"]
    (tone,) = [result for result in results if names([result]) == ["tone.wav"]]
    assert tone["distance"] == pytest.approx(apart.min(), abs=1e-4)
    assert tone["time_seconds"] == apart.argmin() * 0.5
    assert (tone["query_modality"], tone["modality"]) == (IMAGE, SOUND)


def test_a_place_in_a_file_is_asked_with(indexed, folder):
    query = file_search.make_query(indexed.features, folder / "tone.wav", start_seconds=1.5)
    assert query.vectors.shape == (1, 128) and query.times_seconds == [1.5]
    (best,) = file_search.nearest_files(indexed.index, query, top=1)
    assert best["distance"] < 1e-3 and best["time_seconds"] == best["query_time_seconds"] == 1.5
    query = file_search.make_query(indexed.features, folder / "low.mp4", start_seconds=0.5)
    assert query.modalities == [SOUND, IMAGE]
    frame = search_page.frame_at(folder / "low.mp4", 1.0, round(64 * 256 / 224))
    crop = images.center_crop(frame, 64)[np.newaxis]
    expected = indexed.features.model.features("vision", "embedding")(crop)
    np.testing.assert_allclose(query.vectors[1], expected[0], atol=1e-4)
    for modality in (SOUND, IMAGE):
        query = file_search.make_query(
            indexed.features, folder / "low.mp4", start_seconds=0.5, modality=modality
        )
        assert query.modalities == [modality]
    results = indexed.ask(folder / "low.mp4", query_modality=SOUND)
    assert {result["query_modality"] for result in results} == {SOUND}


def test_a_long_query_is_thinned_out(indexed, folder, monkeypatch):
    monkeypatch.setattr(file_search, "MAX_QUERY_VECTORS", 3)
    query = file_search.make_query(indexed.features, folder / "tone.wav")
    assert query.times_seconds == [0.0, 1.0, 2.0]


def test_queries_that_cannot_be_asked(indexed, folder, tmp_path):
    mute = conftest.make_video(tmp_path / "mute.mp4", sound=None)
    for name, message, settings in (
        (mute, "mute.mp4: no sound to query with", {"modality": SOUND}),
        ("noise.png", "is an image, without times", {"start_seconds": 1.0}),
        ("tone.wav", "query_start=-1", {"start_seconds": -1.0}),
        ("tone.wav", "tone.wav", {"start_seconds": 99.0}),
        ("none.wav", "no such file", {}),
    ):
        with pytest.raises(UserError, match=message):
            file_search.make_query(indexed.features, folder / name, **settings)


def test_another_network_or_setting_is_refused(indexed, network, tmp_path):
    before = (indexed.index.folder / "index.sqlite").read_bytes()
    with pytest.raises(UserError, match="made with --hop_seconds=0.5, not 0.25"):
        Workplace(indexed.index.folder, network, hop_seconds=0.25)
    other = shutil.copytree(network, tmp_path / "other")
    metadata = saved_model.read_metadata(other)
    (other / saved_model.METADATA_FILE).write_text(
        json.dumps(metadata | {"weights_sha256": "of other weights"})
    )
    with pytest.raises(UserError, match="another network"):
        Workplace(indexed.index.folder, other)
    (other / saved_model.METADATA_FILE).write_text(json.dumps(metadata | {"inputs": ["frames"]}))
    with pytest.raises(UserError, match="need an AVE-Net"):
        Workplace(tmp_path / "idx", saved := shutil.copytree(other, tmp_path / "frames"))
    assert saved.is_dir() and not (tmp_path / "idx").exists()
    assert (indexed.index.folder / "index.sqlite").read_bytes() == before
    unit = np.eye(3, dtype=np.float32)
    assert file_search._of_length_one(unit) is unit
    with pytest.raises(UserError, match="not of length 1"):
        file_search._of_length_one(2 * unit)


@tf.function(input_signature=[tf.TensorSpec([None, RATE], tf.float32, name="waveform")])
def _spectrum(waveform):
    bands = tf.abs(tf.signal.rfft(waveform))[:, : RATE // 2]
    return {"embedding": tf.reduce_mean(tf.reshape(bands, [-1, 96, 250]), axis=2)}


def test_a_network_of_sound_alone_finds_sounds(folder, tmp_path):
    module = tf.Module()
    module.audio = _spectrum
    tf.saved_model.save(module, str(tmp_path / "net"), signatures={"audio": _spectrum})
    write_metadata(tmp_path / "net", inputs=[constants.LOG_SPECTROGRAM], weights_sha256="0")
    place = Workplace(tmp_path / "idx", tmp_path / "net")
    conftest.make_video(tmp_path / "mute.mp4", picture="color=red:s=64x48:r=25", sound=None)
    counts, problems = place.add(folder, tmp_path / "mute.mp4")
    assert counts == {"added": 3, "known": 0, "failed": 2}
    assert problems == [
        f"{folder / 'noise.png'}: this network embeds sounds alone",
        f"{tmp_path / 'mute.mp4'}: no sound",
    ]
    for settings in ({}, {"start_seconds": 0.5}):
        query = file_search.make_query(place.features, folder / "low.mp4", **settings)
        np.testing.assert_allclose(np.linalg.norm(query.vectors, axis=1), 1.0, rtol=1e-5)
        hits = place.ask(folder / "low.mp4", **settings)
        assert names(hits)[0] == "low.mp4" and len(hits) == 3
        assert {hit["modality"] for hit in hits} == {SOUND}


def run(network, index_dir, *arguments, **given):
    values = {"saved_model": network, "index": index_dir, "batch_size": 8, **given}
    lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
    flags = [f"--{name}={value}" for name, values in lists.items() for value in values]
    configs = search.Config, file_search.Entries, search.QueryConfig
    rest, given = parse([*flags, *arguments], *configs)
    search.main(rest, *given)


def test_answers_in_every_format(indexed, folder, network, tmp_path, capsys):
    index_dir, query = indexed.index.folder, str(folder / "low.mp4")
    run(network, index_dir, query=query)
    header, first, *rest = capsys.readouterr().out.splitlines()
    assert header.startswith("rank  distance") and len(rest) == 3
    assert "low.mp4  (the query itself)" in first
    run(network, index_dir, query=query, format="json", top=2)
    answer = json.loads(capsys.readouterr().out)
    assert [result["rank"] for result in answer["results"]] == [1, 2]
    assert names(answer["results"])[0] == "low.mp4"
    run(network, index_dir, query=query, format="html", out=str(tmp_path / "found.html"))
    page = (tmp_path / "found.html").read_text()
    assert page.count("<li class") == 4 and page.count("<video") == 3 and page.count("<audio") == 1
    assert page.count("data:image/jpeg;base64,") == 4  # the query, two videos and the image


def test_a_page_escapes_names_and_links_to_any(network, tmp_path):
    name = """<b>a 'tune' & "100%" #1?.wav"""
    soundfile.write(tmp_path / name, np.zeros(RATE), RATE)
    run(
        network, tmp_path / "idx", add=[str(tmp_path / name)], query=str(tmp_path / name),
        format="html", out=str(tmp_path / "sub" / "found.html"),
    )  # fmt: skip
    page = (tmp_path / "sub" / "found.html").read_text()
    assert "<b>a" not in page and "&lt;b&gt;a" in page
    assert 'src="../%3Cb%3Ea%20%27tune%27%20%26%20%22100%25%22%20%231%3F.wav#t=0.00"' in page
    assert search_page.link(tmp_path / "javascript:x.wav", tmp_path).startswith("./javascript")


def test_a_file_that_is_gone_is_no_result_and_can_be_dropped(folder, network, tmp_path, caplog):
    own = shutil.copy(folder / "noise.png", tmp_path / "gone.png")
    index, query = tmp_path / "idx", str(folder / "tone.wav")
    run(network, index, add=[str(own), str(folder / "tone.wav")])
    own.unlink()
    out = tmp_path / "found.json"
    run(network, index, query=query, format="json", out=str(out))
    assert [result["kind"] for result in json.loads(out.read_text())["results"]] == ["sound"]
    with caplog.at_level(logging.INFO):
        run(network, index, prune=True)
        run(network, index, prune=True)
    assert "1 files that are gone were dropped" in caplog.text
    assert "0 files that are gone were dropped" in caplog.text


def test_the_command_tells_what_is_wrong_in_one_line(folder, network, tmp_path, caplog):
    refuse = functools.partial(_refused, network, tmp_path)
    refuse("nothing to do")
    refuse("is no index; give --add", query=str(folder / "low.mp4"))
    refuse("needs --out", query=str(folder / "low.mp4"), format="html")
    refuse("is a folder", query=str(folder / "low.mp4"), out=str(tmp_path))
    refuse("query itself", query=str(folder / "low.mp4"), out=str(folder / "low.mp4"))
    assert not (tmp_path / "idx").exists()
    (tmp_path / "empty").mkdir()
    refuse("holds no sound, image or video", add=[str(tmp_path / "empty")])
    refuse("holds no entry", query=str(folder / "low.mp4"))
    with caplog.at_level(logging.ERROR):
        refuse("2 inputs could not be added", add=["none.wav", str(tmp_path / "empty")])
    assert "none.wav: no such file" in caplog.text


def _refused(network, tmp_path, message, **given):
    with pytest.raises(UserError, match=message) as caught:
        run(network, tmp_path / "idx", **given)
    assert "\n" not in str(caught.value)


def test_an_index_takes_the_default_tracks_or_those_it_was_made_with(
    network, folder, indexed, tmp_path
):
    both = tmp_path / "both.mkv"
    inputs = [word for name in ("high", "low") for word in ("-i", str(folder / f"{name}.mp4"))]
    codecs = ("-c:v", "copy", "-c:a", "pcm_s16le")  # AAC would come later in Matroska
    flags = ("-disposition", "0", "-disposition:v:1", "default", "-disposition:a:1", "default")
    conftest.run_ffmpeg(*inputs, "-map", "0", "-map", "1", *codecs, *flags, str(both))
    for settings, name in (({}, "low"), ({"audio_track": 0, "video_track": 0}, "high")):
        place = Workplace(tmp_path / name, network, **settings)
        assert place.add(both)[0]["added"] == 1
        for asked in ({}, {"modality": IMAGE}, {"modality": SOUND}, {"start_seconds": 0.5}):
            got = file_search.make_query(place.features, both, **asked)
            expected = file_search.make_query(indexed.features, folder / f"{name}.mp4", **asked)
            num = min(len(got.vectors), len(expected.vectors))
            np.testing.assert_allclose(got.vectors[:num], expected.vectors[:num], atol=5e-3)
    with pytest.raises(UserError, match="made with --audio_track=0, not 1"):
        Workplace(tmp_path / "high", network, audio_track=1)
