"""Every command that reads or writes files, on inputs at the smallest size: for tests of damage.

world = make_world(folder)                   # half a minute: everything by our own commands
for name, command in COMMANDS.items():       # read below the world, write below out/
    commands.run("-m", *command.arguments, cwd=world)
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import zipfile

import numpy as np
import soundfile

from data_prep.demo_data import clips
from data_prep.demo_data.data_set import Config, make_demo
from l3net.json_files import CHECKSUM
from tests import commands, tiny_archives, tiny_openl3, tiny_sets

ROOT = pathlib.Path(__file__).parents[1]
OUT = "out"
_SMALL = (
    *("--frame_px=64", "--spectrogram_average=2", "--conv1_1_stride=2", "--global_batch_size=4"),
    *("--num_eval_pairs=4", "--eval_every_steps=2", "--log_every_steps=1", "--shards=shards"),
)
_WIDTH = "--width=0.03125"
_TIMES = ("seconds", "pairs_per_second")  # in metrics
_L3, _AVE, _AVOL = (f"runs/{name}/saved_model" for name in ("l3_net_ots", "ave_net", "avol_net"))
_RANDOM = f"{_L3}_random"
_OPENL3 = "openl3_audio_mel128_music-v0_4_0.h5.gz"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, and the files and folders of the world that it reads."""

    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    # What it writes beside `OUT`: into what it reads.
    writes: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """Seconds that it takes on an idle core, roughly: those that train, trace much."""
        module = self.arguments[0]
        if module in ("l3net.train", "eval.figures", "eval.table2_sound"):
            return 20.0
        return 6.0 if module.startswith("eval.") and "reporting" not in module else 2.0


def _command(text: str, *reads: str, writes: tuple[str, ...] = ()) -> Command:
    return Command(tuple(text.split()), reads, writes)


def _train(text: str, *reads: str, writes: tuple[str, ...] = ()) -> Command:
    arguments = ("l3net.train", *text.split(), *_SMALL, _WIDTH)
    return Command(arguments, ("shards", *reads), writes)


_TABLE = f"--out_dir={OUT}/tables --cache_dir={OUT}/cache --shards=shards"
COMMANDS = {
    "write_shards": _command(
        f"data_prep.write_shards --manifest=videos/manifest.csv --videos_dir=videos "
        f"--out_dir={OUT}/shards --dataset_name=demo --num_workers=1",
        "videos",
    ),
    "write_shards_archives": _command(
        f"data_prep.write_shards --videos_dir=archives --out_dir={OUT}/shards --num_workers=1 "
        "--dataset_name=archives --format=webdataset --max_seconds=1",
        "archives",
    ),
    "verify_shards": _command("data_prep.verify_shards --shards_dir=shards", "shards"),
    "report": _command(
        "data_prep.report --shards_dir=shards", "shards", writes=("shards/report.html",)
    ),
    "datasets": _command(
        "data_prep.datasets --dataset=kinetics_sounds --media_dir=videos --lists="
        f"lists/kinetics.csv,lists/kinetics.json --manifest={OUT}/manifest.csv",
        "videos",
        "lists",
    ),
    "datasets_audioset": _command(
        "data_prep.datasets --dataset=audioset_instruments --media_dir=videos --ontology="
        f"lists/ontology.json --lists=lists/eval_segments.csv --manifest={OUT}/manifest.csv",
        "videos",
        "lists",
    ),
    "datasets_boxes": _command(
        "data_prep.datasets --dataset=flickr_soundnet_test --media_dir=images --lists=lists/boxes "
        f"--manifest={OUT}/manifest.csv",
        "images",
        "lists",
    ),
    "train": _train(f"--run_dir={OUT}/run --model=l3_net_ots --num_steps=3"),
    "train_on": _train(
        "--run_dir=runs/ave_net --model=ave_net --num_steps=5",
        "runs/ave_net",
        writes=("runs/ave_net",),
    ),
    "train_from": _train(
        f"--run_dir={OUT}/run --model=l3_net_ots --num_steps=2 --init_from=runs/l3_net_ots",
        "runs/l3_net_ots",
    ),
    "export": _command(f"l3net.export --run_dir=runs/ave_net --out={OUT}/model", "runs/ave_net"),
    "import_openl3": _command(
        f"l3net.import_openl3 --weights=openl3/{_OPENL3} --out={OUT}/model", "openl3"
    ),
    "tflite": _command(f"l3net.tflite --saved_model={_L3} --out={OUT}/audio.tflite", _L3),
    "extract": _command(
        f"l3net.extract --saved_model={_L3} --out_dir={OUT}/features media", _L3, "media"
    ),
    "extract_again": _command(
        f"l3net.extract --saved_model={_L3} --out_dir=features media",
        _L3,
        "media",
        "features",
        writes=("features",),
    ),
    "localize": _command(
        f"l3net.localize --saved_model={_AVOL} --video=media/1.mp4 --out={OUT}/maps.mp4 "
        f"--seconds=0.4 --npz={OUT}/maps.npz",
        _AVOL,
        "media",
    ),
    "search_add": _command(
        f"l3net.search --saved_model={_AVE} --index={OUT}/index --add=media", _AVE, "media"
    ),
    "search_add_again": _command(
        f"l3net.search --saved_model={_AVE} --index=index --add=media --add=images",
        *(_AVE, "media", "images", "index"),
        writes=("index",),
    ),
    "search_query": _command(
        f"l3net.search --saved_model={_AVE} --index=index --query=media/1.mp4 --format=html "
        f"--out={OUT}/found.html",
        *(_AVE, "media", "index"),
    ),
    "search_prune": _command(
        f"l3net.search --saved_model={_AVE} --index=index --prune --query=media/2.wav",
        *(_AVE, "media", "index"),
        writes=("index",),
    ),
    "avc_accuracy": _command(
        f"eval.avc_accuracy --saved_models={_L3},{_AVOL} --num_pairs=4 {_TABLE}",
        *(_L3, _AVOL, "shards"),
    ),
    "table2": _command(
        f"eval.table2_sound --saved_model={_L3} --esc50=esc50 --clips=videos/clips.csv "
        f"--svm_c=0.01 --piczak=off {_TABLE}",
        *(_L3, "shards", "esc50", "videos/clips.csv"),
    ),
    "table3": _command(
        f"eval.table3_imagenet --saved_model={_L3} --imagenet=imagenet --epochs=1 --batch_size=8 "
        f"--augmentation=none {_TABLE}",
        *(_L3, "shards", "imagenet"),
    ),
    "table4": _command(
        f"eval.table4_nmi --saved_model={_L3} --random_saved_model={_RANDOM} --num_clusters=2 "
        f"--clips=videos/clips.csv {_TABLE}",
        *(_L3, _RANDOM, "shards", "videos/clips.csv"),
    ),
    "retrieval": _command(
        f"eval.retrieval --saved_models={_AVE},{_L3} --clips=videos/clips.csv "
        f"--ontology=lists/demo_ontology.json {_TABLE}",
        *(_AVE, _L3, "shards", "lists", "videos/clips.csv"),
    ),
    "localization": _command(
        f"eval.localization --saved_model={_AVOL} --boxes=videos/boxes.csv {_TABLE}",
        *(_AVOL, "shards", "videos/boxes.csv"),
    ),
    "figures": _command(
        f"eval.figures --saved_model={_L3} --random_saved_model={_RANDOM} --ave_saved_model={_AVE} "
        f"--avol_saved_model={_AVOL} --boxes=videos/boxes.csv --clips=videos/clips.csv "
        "--table2=tables/table2.json --learning_curves=tables/learning_curves.json "
        f"--shards=shards --out_dir={OUT}/figures --cache_dir={OUT}/cache",
        *(_L3, _RANDOM, _AVE, _AVOL, "shards", "tables", "videos/boxes.csv", "videos/clips.csv"),
    ),
    "curves": _command(
        f"eval.reporting.curves --runs=runs/ave_net,runs/l3_net_ots --out_dir={OUT}/tables",
        *("runs/ave_net", "runs/l3_net_ots"),
    ),
    "claims": _command(
        f"eval.reporting.claims --out_dir={OUT}/tables tables/table2.json tables/retrieval.json "
        "tables/avc_accuracy.json",
        "tables",
    ),
    "seeds": _command(
        f"eval.reporting.seeds --out_dir={OUT}/tables tables/table2.json tables/avc_accuracy.json",
        "tables",
    ),
    "docs_tables": _command(
        "eval.reporting.docs_tables --readme=tables/document.md tables/table2.md",
        "tables",
        writes=("tables/document.md",),
    ),
    "results_page": _command(
        f"eval.results_page --tables=tables --figures=figures --out_dir={OUT}/page",
        *("tables", "figures"),
    ),
    "cached": _command(
        f"eval.table2_sound --saved_model={_L3} --esc50=esc50 --svm_c=0.01 --piczak=off "
        f"--out_dir={OUT}/tables --cache_dir=cache",
        *(_L3, "esc50", "cache"),
        writes=("cache",),
    ),
}


def environment() -> dict[str, str]:
    """Returns the environment that commands run in."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def run_in(world: pathlib.Path, *arguments: str, status: int = 0) -> str:
    """Runs a command in a world; returns what it says on stderr."""
    done = commands.run("-m", *arguments, cwd=world, env=environment())
    assert done.returncode == status, done.stderr
    return done.stderr


def copy_reads(world: pathlib.Path, command: Command, folder: pathlib.Path) -> None:
    """Copies what a command reads into a folder, where it can be run and its inputs damaged."""
    for name in command.reads:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (world / name).is_dir():
            shutil.copytree(world / name, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(world / name, target)


def results_of(command: Command, folder: pathlib.Path) -> dict[str, str]:
    """Returns a digest of every file that a command wrote, times and versions left out."""
    roots = [folder / name for name in (OUT, *command.writes)]
    paths = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return {
        str(path.relative_to(folder)): hashlib.sha256(_content(path)).hexdigest()
        for path in paths
        if path.is_file() and path.name[0] != "." and "cache" not in path.parts
    }


def _rows(path: pathlib.Path) -> bytes:
    """Returns the files of a search index and their vectors, in any order."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT path, sha256, kind, modality, step_seconds, vectors FROM file JOIN part ON "
            "file.id = part.file"
        )
        return repr(sorted(rows)).encode()


def _content(path: pathlib.Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        content = json.loads(data)
        for name in (*_TIMES, "versions", "commit", CHECKSUM):
            content.pop(name, None) if isinstance(content, dict) else None
        return json.dumps(content, sort_keys=True).encode()
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in data.splitlines()]
        kept = [{k: v for k, v in line.items() if k not in _TIMES} for line in lines]
        return json.dumps(kept).encode()
    if path.suffix == ".sqlite":
        return _rows(path)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in sorted(archive.namelist()))
    if path.suffix == ".md":
        return b"\n".join(line for line in data.split(b"\n") if b"Made in " not in line)
    return data


def make_world(folder: pathlib.Path) -> pathlib.Path:
    """Makes all that `COMMANDS` read."""
    videos = folder / "videos"
    make_demo(Config(videos, ("2", "1", "2"), 1.2, num_workers=1, labels=clips.LABELS[:3]))
    _make_media(folder)
    _make_archives(folder)
    _make_lists(folder)
    made = tiny_openl3.layers(_OPENL3.partition("-")[0])
    (folder / "openl3").mkdir()
    tiny_openl3.write_weights(folder / "openl3" / _OPENL3, made)
    tiny_sets.write_esc50(folder / "esc50")
    tiny_sets.write_imagenet(folder / "imagenet", per_class=2)
    run_in(folder, *COMMANDS["write_shards"].arguments, "--out_dir=shards")
    for model in ("l3_net_ots", "ave_net", "avol_net"):
        run = f"--run_dir=runs/{model}"
        train = COMMANDS["train"].arguments
        run_in(folder, *train, run, f"--model={model}")
        run_in(folder, "l3net.export", run)
    run_in(folder, "l3net.export", "--run_dir=runs/l3_net_ots", "--random_weights")
    for name, flag in (("extract", "--out_dir=features"), ("search_add", "--index=index")):
        run_in(folder, *COMMANDS[name].arguments, flag)
    for name in ("avc_accuracy", "table2", "retrieval", "curves"):
        run_in(folder, *COMMANDS[name].arguments, "--out_dir=tables")
    run_in(folder, *COMMANDS["cached"].arguments)
    (folder / "tables" / "document.md").write_text("<!-- table2 -->\n<!-- /table2 -->\n")
    run_in(folder, *COMMANDS["figures"].arguments, "--out_dir=figures")
    shutil.rmtree(folder / OUT)
    return folder


def _make_media(folder: pathlib.Path) -> None:
    videos = sorted((folder / "videos").rglob("*.mp4"))
    (folder / "media").mkdir()
    shutil.copyfile(videos[0], folder / "media" / "1.mp4")
    tiny_sets.write_tone(folder / "media" / "2.wav", seconds=1.5)
    rng = np.random.default_rng(0)
    soundfile.write(folder / "media" / "3.flac", rng.uniform(-0.5, 0.5, (30_000, 2)), 22_050)
    soundfile.write(folder / "media" / "4.ogg", rng.uniform(-0.5, 0.5, 30_000), 22_050)
    for number, suffix in enumerate(("jpg", "png", "gif", "tif", "bmp", "webp")):
        tiny_sets.save_image(folder / "images" / f"{number}.{suffix}", (200, 9, 30), seed=number)


def _make_archives(folder: pathlib.Path) -> None:
    videos = sorted((folder / "videos").rglob("*.mp4"))
    for kind in tiny_archives.KINDS:
        files = [(f"{path.stem}{kind}.mp4", path.read_bytes()) for path in videos[:2]]
        files.append((f"{videos[0].stem}{kind}.json", b'{"label": "drum"}'))
        tiny_archives.write(
            folder / "archives" / f"0.{kind}", tiny_archives.archive_bytes(kind, files)
        )


def _make_lists(folder: pathlib.Path) -> None:
    lists = folder / "lists"
    (lists / "boxes").mkdir(parents=True)
    ids = [f"abcdefghij{number}" for number in range(5)]
    shutil.copyfile(folder / "media" / "1.mp4", folder / "videos" / f"{ids[0]}.mp4")
    rows = [f"bowling,{name},0,10,train,0" for name in ids]
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    (lists / "kinetics.csv").write_text("\n".join([header, *rows]) + "\n")
    annotations = {"label": "typing", "segment": [10.0, 20.0]}
    entries = {name: {"annotations": annotations, "subset": "validate"} for name in ids}
    (lists / "kinetics.json").write_text(json.dumps(entries))
    rows = [f'{name}, 0.000, 10.000, "/m/1,/m/2"' for name in ids]
    (lists / "eval_segments.csv").write_text("\n".join(["# YTID, start", *rows]) + "\n")
    names = ("Musical instrument", "Singing", "Tools")
    nodes = [
        {"id": f"/m/{n}", "name": name, "child_ids": [f"/m/{n + 1}"] if n < 2 else []}
        for n, name in enumerate(names)
    ]
    (lists / "ontology.json").write_text(json.dumps(nodes))
    classes = [{"id": name, "name": name, "child_ids": []} for name in clips.LABELS[:3]]
    top = {"id": "top", "name": "top", "child_ids": list(clips.LABELS[:3])}
    (lists / "demo_ontology.json").write_text(json.dumps([top, *classes]))
    for number in range(3):
        box = "<bbox><n>1</n><x>10</x><y>20</y><x>100</x><y>200</y></bbox>"
        (lists / "boxes" / f"{number}.xml").write_text(f"<annotation>{box}</annotation>")
