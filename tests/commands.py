"""Runs our commands, each in a process of its own that need not import TensorFlow first.

To import TensorFlow takes more than four seconds of processor time, more than most commands take
at the size of the tests. Here one process imports it, and nothing of ours, and is forked for each
command: that gives a fresh interpreter state, real flags, output and exit status.

    done = commands.run("-m", "l3net.export", "--run_dir=x")   # as subprocess.run
    process = commands.start("-c", "print(1)")                 # as subprocess.Popen

What must be seen from the very start (imports, start-up notes) takes subprocess itself.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback


def run(*arguments: str, timeout: float = 300.0, **settings) -> subprocess.CompletedProcess:
    """Runs a command (see `start`) to its end; returns its exit status and what it wrote."""
    process = start(*arguments, **settings)
    out, error = process.communicate(timeout)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def start(
    *arguments: str,
    cwd: str | pathlib.Path | None = None,
    env: dict[str, str] | None = None,
    file_bytes: int | None = None,
) -> "Process":
    """Starts a command: "-m" and a module, or "-c" and a program, and its own arguments.

    The environment is complete; None takes this one's. TensorFlow's start-up has passed already.
    No file may become longer than `file_bytes`, as on a full disk; what the command says may.
    """
    folder = tempfile.TemporaryDirectory(prefix="command-")
    wanted = {
        "arguments": [str(argument) for argument in arguments],
        "cwd": str(cwd or pathlib.Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "stdout": str(pathlib.Path(folder.name) / "stdout"),
        "stderr": str(pathlib.Path(folder.name) / "stderr"),
        "file_bytes": file_bytes,
    }
    return Process(_ask(start=wanted), folder)


def preload(modules: list[str]) -> None:
    """Has modules imported before all further commands are forked."""
    _ask(preload=modules)


class Process:
    """A running command, as subprocess.Popen; the returncode is None until `communicate` ends.

    Then `peak_bytes` is the most memory that it, or one process below it, had at once, with the
    half gigabyte of the process that was forked.
    """

    def __init__(self, pid: int, folder: tempfile.TemporaryDirectory):
        self.pid, self._folder, self.returncode = pid, folder, None
        self.peak_bytes = 0

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Waits for the end; returns standard output and standard error."""
        end = time.monotonic() + timeout
        while self.returncode is None:
            if not self.poll():
                if time.monotonic() > end:
                    self.kill()
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
                time.sleep(0.01)
        texts = [pathlib.Path(self._folder.name, name) for name in ("stdout", "stderr")]
        return tuple(path.read_text(errors="replace") for path in texts)

    def poll(self) -> bool:
        """Returns whether it has ended."""
        if self.returncode is None and (ended := _ask(poll=self.pid)) is not None:
            self.returncode, self.peak_bytes = ended
        return self.returncode is not None

    def kill(self) -> None:
        """Sends SIGKILL, unless the end has been seen."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


# --- The process that is forked ------------------------------------------------------------------
_copiers: list[int] = []  # of a command


@functools.cache
def _server() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)  # ends its input and waits
    return process


def _ask(**question):
    server = _server()
    server.stdin.write(json.dumps(question) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def _serve() -> None:
    """Answers one line with one line until its input ends."""
    sys.path.pop(0)  # the folder of this file
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        (task, given), *_ = question.items()
        answer = {"start": _fork, "poll": _poll, "preload": _preload}[task](given)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _preload(modules: list[str]) -> None:
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    for module in modules:
        importlib.import_module(module)
    sys.path.pop(0)


def _poll(pid: int) -> tuple[int, int] | None:
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    return (os.waitstatus_to_exitcode(status), 1024 * usage.ru_maxrss) if ended else None


def _fork(wanted: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _execute(wanted)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.closerange(0, 3)
        for copier in _copiers:
            os.waitpid(copier, 0)
        os._exit(code)


def _execute(wanted: dict) -> int:
    """Becomes the command; returns its exit status."""
    files = [os.open(wanted[name], os.O_WRONLY | os.O_CREAT) for name in ("stdout", "stderr")]
    if wanted["file_bytes"] is not None:
        files = [_without_limit(file) for file in files]
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (wanted["file_bytes"], most))
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.path[:0] = [wanted["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    how, what, *rest = wanted["arguments"]
    sys.argv = [how, *rest]
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    finally:
        atexit._run_exitfuncs()
    return 0


def _without_limit(file: int) -> int:
    """Returns a pipe that another process writes to the file, until all who have it end."""
    readable, writable = os.pipe()
    if copier := os.fork():
        _copiers.append(copier)
        os.close(readable)
        return writable
    os.close(writable)
    while block := os.read(readable, 1 << 16):
        os.write(file, block)
    os._exit(0)


if __name__ == "__main__":
    _serve()
