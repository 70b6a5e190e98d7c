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
import json
import os
import pathlib
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
    *arguments: str, cwd: str | pathlib.Path | None = None, env: dict[str, str] | None = None
) -> "Process":
    """Starts a command: "-m" and a module, or "-c" and a program, and its own arguments.

    The environment is complete; None takes this one's. TensorFlow's start-up has passed already.
    """
    folder = tempfile.TemporaryDirectory(prefix="command-")
    wanted = {
        "arguments": [str(argument) for argument in arguments],
        "cwd": str(cwd or pathlib.Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "stdout": str(pathlib.Path(folder.name) / "stdout"),
        "stderr": str(pathlib.Path(folder.name) / "stderr"),
    }
    return Process(_ask(start=wanted), folder)


class Process:
    """A running command, as subprocess.Popen; the returncode is None until `communicate` ends."""

    def __init__(self, pid: int, folder: tempfile.TemporaryDirectory):
        self._pid, self._folder, self.returncode = pid, folder, None

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Waits for the end; returns standard output and standard error."""
        end = time.monotonic() + timeout
        while self.returncode is None:
            self.returncode = _ask(poll=self._pid)
            if self.returncode is None:
                if time.monotonic() > end:
                    self.kill()
                    raise subprocess.TimeoutExpired(str(self._pid), timeout)
                time.sleep(0.01)
        texts = [pathlib.Path(self._folder.name, name) for name in ("stdout", "stderr")]
        return tuple(path.read_text(errors="replace") for path in texts)

    def kill(self) -> None:
        """Sends SIGKILL, unless the end has been seen."""
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)


# --- The process that is forked ------------------------------------------------------------------
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
        answer = _fork(question["start"]) if "start" in question else _poll(question["poll"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


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
        os._exit(code)


def _execute(wanted: dict) -> int:
    """Becomes the command; returns its exit status."""
    files = [os.open(wanted[name], os.O_WRONLY | os.O_CREAT) for name in ("stdout", "stderr")]
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, number)
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


if __name__ == "__main__":
    _serve()
