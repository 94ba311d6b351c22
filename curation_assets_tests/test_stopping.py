"""Signals end a command within seconds, whatever it is at, with the exit codes that are documented."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

COMMAND = """
import sys, time, threading
from concurrent.futures import ThreadPoolExecutor
from curation_assets import cli
from curation_assets.commands.progress import stoppable

def python():
    with stoppable():
        print("begun", flush=True)
        time.sleep(60)

def native():
    import hashlib
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"salt", 2**31 - 1)  # minutes in C, of which no handler is called

def pool():
    with ThreadPoolExecutor(2) as threads:
        threads.submit(time.sleep, 60)
        print("begun", flush=True)
        time.sleep(60)

cli.app.command("wait")(globals()[sys.argv.pop(1)])
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("what", ["python", "native", "pool"])
def test_a_signal_ends_a_command_whatever_it_is_at(what: str, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, what, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # until it is in C
    begin = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert time.monotonic() - begin < 7
    said = process.stderr.read()
    assert "Traceback" not in said
    if what != "pool":
        assert said == "stopped; what was committed stays, run the command again to go on\n"


def test_a_second_signal_ends_it_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", COMMAND, "native", "wait"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # until it is in C
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert time.monotonic() - begin < 2
