"""How the command line ends when somebody stops it, or names what cannot be."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from evodiff.cli import main


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    """Return exit code and complaint of ``evodiff ...``, run in this process."""
    monkeypatch.setattr(sys, "argv", ["evodiff", *map(str, arguments)])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back in the end
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


def test_control_c_before_the_workers_listen_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evodiff.search.resume_search", interrupted)
    code, complaint = run(monkeypatch, capsys, "evolve", "--resume", tmp_path)
    assert code == 130
    assert "--resume" in complaint
    assert "Traceback" not in complaint


def test_control_c_while_the_command_line_is_imported_has_no_traceback() -> None:
    interrupting = (
        "import sys, evodiff.__main__ as door\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "door.main()"
    )
    ended = subprocess.run([sys.executable, "-c", interrupting], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr == "evodiff: Stopped before it began.\n"


def test_a_seed_beyond_those_of_torch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, complaint = run(monkeypatch, capsys, "sample", tmp_path, "--seed", 2**64)
    assert code == 2
    assert "--seed" in complaint


def test_a_plain_end_adds_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "evolve", "--help") == (0, "")
