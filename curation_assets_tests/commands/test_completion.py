"""Completion as bash does it: its script, from the command itself, in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CURATION = Path(sys.executable).with_name("curation")
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash here")


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PATH": f"{CURATION.parent}{os.pathsep}{os.environ['PATH']}"} | more


def completed(*words: str) -> list[str]:
    """What bash offers for the last of some words."""
    script = """
eval "$(_CURATION_COMPLETE=source_bash curation)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p curation | sed 's/.*-F \\([^ ]*\\) .*/\\1/') curation
printf '%s\\n' "${COMPREPLY[@]}"
"""
    asked = [str(BASH), "-c", script, "bash", *words]
    done = subprocess.run(asked, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("curation", "sta"), ["status"]),
        (("curation", "se"), ["search", "serve"]),
        (("curation", "model", "pro"), ["promote"]),
        (("curation", "search", "--mod"), ["--model-version"]),
        (("curation", "run", "--f"), ["--folders"]),
        (("curation", "nothing"), []),
    ],
    ids=str,
)
def test_commands_and_options_are_completed(words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(*words) == expected


def test_every_command_is_offered_where_none_is_begun() -> None:
    offered = completed("curation", "")
    known = {"run", "status", "show", "search", "label", "index", "map", "gallery", "serve", "demo", "model"}
    known |= {
        "repair",
        "maintain",
        "forget",
        "curate",
        "dataset",
        "problems",
        "decisions",
        "duplicates",
        "annotate",
        "leakage",
        "clusters",
    }
    known |= {"classify", "mine"}
    assert {*offered} == known


def test_the_installed_script_is_read_by_a_new_shell(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "SHELL": str(BASH), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    (tmp_path / ".bashrc").write_text("# mine\n")
    done = subprocess.run(
        [str(CURATION), "--install-completion", "bash"], env=environment(**home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".bashrc").read_text().startswith("# mine\n")
    new_shell = [str(BASH), "-c", f". {tmp_path}/.bashrc; complete -p curation"]
    said = subprocess.run(new_shell, env=environment(**home), capture_output=True, text=True)
    assert said.stdout.strip().endswith(" curation"), said.stderr


def test_help_says_of_completion_what_it_says_of_the_other_options() -> None:
    done = subprocess.run([str(CURATION), "--help"], env=environment(COLUMNS="100"), capture_output=True, text=True)
    said = done.stdout.split("Commands:")[0]
    assert "--install-completion  Install completion for the current shell." in said
    assert max(map(len, done.stdout.splitlines())) <= 100
    group = subprocess.run([str(CURATION), "model", "--help"], env=environment(), capture_output=True, text=True)
    assert "completion" not in group.stdout
