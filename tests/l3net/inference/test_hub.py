"""The Hugging Face Hub: its cache on a local folder, and a server on loopback. No network."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

import l3net
from l3net import export, models
from l3net.errors import UserError
from l3net.inference import hub
from l3net.inference.saved_model import METADATA_FILE
from tests import commands
from tests.tiny_networks import SMALLEST, save_tiny_network, save_tiny_run

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "tester/tiny-l3"

LOAD = """
import sys
import l3net
from l3net.errors import UserError
try:
    model = l3net.SavedModel.from_pretrained(sys.argv[1], revision=(sys.argv[2:] or [None])[0])
    print(model.metadata["frame_px"], sorted(model.signature("audio").structured_outputs))
except UserError as error:
    print("UserError:", error)
"""
LOADED = "64 ['conv4_2', 'pool4']\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> pathlib.Path:
    return save_tiny_network(tmp_path_factory.mktemp("network") / "saved_model")


def load(home: pathlib.Path, *arguments: str, endpoint: str | None = None) -> str:
    """Runs LOAD in a process of its own, with that cache; without an endpoint, offline."""
    settings = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **settings}
    done = commands.run("-c", LOAD, *arguments, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- The cache -----------------------------------------------------------------------------------
def cached(home: pathlib.Path, network: pathlib.Path, *, revision: str = "main") -> pathlib.Path:
    """Puts a SavedModel into the layout of huggingface_hub's cache: links to blobs."""
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / SHA
    for file in (path for path in network.rglob("*") if path.is_file()):
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(network)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    reference = repository / "refs" / revision
    reference.parent.mkdir(parents=True)
    reference.write_text(SHA)
    return snapshot


def test_offline_a_model_comes_from_the_cache(network, tmp_path):
    cached(tmp_path, network, revision="v1")
    assert load(tmp_path, NAME, "v1") == load(tmp_path, f"hf://{NAME}@v1") == LOADED
    assert load(tmp_path, NAME, SHA) == LOADED
    missing = load(tmp_path, NAME)  # nothing is known of its main
    assert missing.startswith(f"UserError: {NAME} is no folder, not complete in the cache")
    assert "HF_HUB_OFFLINE" in missing and missing.count("\n") == 1


def test_commands_take_a_name_on_the_hub(network, tmp_path):
    cached(tmp_path, network)
    assert load(tmp_path, f"hf://{NAME}") == LOADED
    (tmp_path / "a.wav").write_bytes(b"no sound")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    arguments = [f"--saved_model=hf://{NAME}", f"--out_dir={tmp_path / 'out'}"]
    done = commands.run("-m", "l3net.extract", *arguments, tmp_path / "a.wav", env=environment)
    assert done.returncode == 1 and "a.wav" in done.stderr  # it came as far as the sound


# --- A server ------------------------------------------------------------------------------------
class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as a download asks for: a model's files at a commit, and the files."""

    network: pathlib.Path
    requests: list[str]

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        self.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if "tester/private" in path:
            return self._refuse(401, "RepoNotFound")
        if "/v9" in path:
            return self._refuse(404, "RevisionNotFound")
        if "tester/gated" in path and "/resolve/" in path:
            return self._refuse(403, "GatedRepo")
        if path.startswith("/api/models/"):
            files = [path for path in sorted(self.network.rglob("*")) if path.is_file()]
            names = [str(file.relative_to(self.network)) for file in files]
            if "/tree/" in path:
                listed = [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": _oid(file)}
                    for name, file in zip(names, files, strict=True)
                ]
                return self._answer(json.dumps(listed).encode())
            siblings = [{"rfilename": name} for name in [*names, "training_data.tar"]]
            return self._answer(json.dumps({"id": NAME, "sha": SHA, "siblings": siblings}).encode())
        file = self.network / path.partition(f"/resolve/{SHA}/")[2]
        if not file.is_file():
            return self._refuse(404, "EntryNotFound")
        return self._answer(file.read_bytes(), {"ETag": f'"{_oid(file)}"', "X-Repo-Commit": SHA})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(b"{}", {"X-Error-Code": code}, status)

    def _answer(self, content: bytes, headers: dict[str, str] | None = None, status=200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _oid(file: pathlib.Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def server(network):
    handler = type("Handler", (Hub,), {"network": network, "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler.requests
        running.shutdown()


def test_a_model_is_fetched_once_and_nothing_but_its_files(network, server, tmp_path):
    endpoint, requests = server
    assert load(tmp_path, NAME, endpoint=endpoint) == LOADED
    assert any(f"/resolve/{SHA}/saved_model.pb" in request for request in requests)
    assert not any("training_data.tar" in request for request in requests)
    requests.clear()
    assert load(tmp_path, NAME, endpoint=endpoint) == LOADED
    assert not [request for request in requests if request.startswith("GET /tester")]
    assert load(tmp_path, NAME) == LOADED  # offline


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tester/private"], "tester/private is neither a folder nor a model on the Hub"),
        (["tester/gated"], "tester/gated is gated: agree to its terms"),
        ([NAME, "v9"], f"{NAME} has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_one_line(server, tmp_path, arguments, message):
    said = load(tmp_path, *arguments, endpoint=server[0])
    assert said.startswith(f"UserError: {message}") and said.count("\n") == 1


def test_without_network_is_one_line(tmp_path):
    said = load(tmp_path, NAME, endpoint="http://127.0.0.1:9")
    assert said.startswith(f"UserError: {NAME} is no folder, not complete in the cache, and cannot")
    assert said.count("\n") == 1


# --- Folders, names, no huggingface_hub ----------------------------------------------------------
def test_a_folder_is_a_folder(network, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_client", None)  # not asked for
    monkeypatch.chdir(network.parent.parent)
    relative = network.relative_to(network.parent.parent)  # of two parts, as a name
    assert l3net.SavedModel.from_pretrained(relative).frame_px == 64
    assert l3net.SavedModel.from_pretrained(str(network)).frame_px == 64
    with pytest.raises(UserError, match="only models on the Hub have one"):
        l3net.SavedModel.from_pretrained(network, revision="v1")
    with pytest.raises(UserError, match="no/such/folder does not exist"):
        l3net.SavedModel.from_pretrained("no/such/folder")


@pytest.mark.parametrize("name", ["hf://tester", "hf://a/b/c", "te--ster/tiny..l3", "hf://"])
def test_impossible_names_are_refused(name):
    with pytest.raises(UserError, match="is no name on the Hub"):
        l3net.SavedModel.from_pretrained(name)


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'l3net\[hub\]'"):
        l3net.SavedModel.from_pretrained(NAME)
    with pytest.raises(UserError, match=r"pip install 'l3net\[hub\]'"):
        export.main(export.Config(run_dir="none", push_to_hub=NAME))


def test_importing_the_package_does_not_import_the_client():
    program = "import sys, l3net.inference.saved_model; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


# --- Push ----------------------------------------------------------------------------------------
@contextlib.contextmanager
def recorded_api(monkeypatch, error: Exception | None = None):
    """Puts a recorder in the place of huggingface_hub's API; yields what it was asked."""
    import huggingface_hub

    calls: list[tuple[str, dict]] = []

    def create_repo(_, repo_id, **settings):
        calls.append(("create_repo", {"repo_id": repo_id, **settings}))
        if error:
            raise error

    def upload_folder(_, **settings):
        files = huggingface_hub.utils.filter_repo_objects(
            [
                str(path.relative_to(settings["folder_path"]))
                for path in pathlib.Path(settings["folder_path"]).rglob("*")
                if path.is_file()
            ],
            allow_patterns=settings["allow_patterns"],
        )
        calls.append(("upload_folder", {**settings, "files": set(files)}))
        return type("Commit", (), {"commit_url": f"https://huggingface.co/{NAME}/commit/{SHA}"})

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    yield calls


def test_export_pushes_the_saved_model_and_its_card(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "l3net.export")
    config = models.ModelConfig("supervised_audio", **SMALLEST)
    run = save_tiny_run(tmp_path / "run", config=config)
    with recorded_api(monkeypatch) as calls:
        export.main(export.Config(run_dir=run, license="cc-by-4.0", push_to_hub=NAME))
    (created, repository), (uploaded, upload) = calls
    assert (created, repository) == ("create_repo", {"repo_id": NAME, "exist_ok": True})
    assert uploaded == "upload_folder" and upload["repo_id"] == NAME
    folder = pathlib.Path(upload["folder_path"])
    assert folder == run / "saved_model"
    everything = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert upload["files"] == everything and {"README.md", METADATA_FILE} < everything
    card = (folder / "README.md").read_text()
    assert f'from_pretrained("{NAME}")' in card and card.startswith("---\nlicense: cc-by-4.0\n")
    assert f"https://huggingface.co/{NAME}/commit/{SHA}" in caplog.text


def test_a_failed_push_says_that_the_saved_model_is_there(network, monkeypatch):
    error = ConnectionError("401 Client Error\nand more")
    with recorded_api(monkeypatch, error), pytest.raises(UserError) as raised:
        hub.push(network, NAME)
    said = str(raised.value)
    assert "401 Client Error" in said and "\n" not in said and "`hf auth login`" in said
