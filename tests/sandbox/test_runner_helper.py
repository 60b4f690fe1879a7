"""gitlab-runner-helper: caches, artifacts, waiting for a service and the log file, by the program that pods run."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.toolchain import programs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the practice cluster's programs are built for root only")


@pytest.fixture(scope="session")
def helper() -> Path:
    """The built program; a machine without Go gets one for it."""
    return programs(("gitlab-runner-helper",), lambda line: None)["gitlab-runner-helper"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project directory with files to keep."""
    folder = tmp_path / "project"
    (folder / "out" / "deep").mkdir(parents=True)
    (folder / "out" / "a.txt").write_text("a")
    (folder / "out" / "deep" / "b.log").write_text("b")
    (folder / "out" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "out" / "run.sh").chmod(0o755)
    (folder / "out" / "link").symlink_to("a.txt")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    return folder


def run(helper: Path, folder: Path, *arguments: str, code: int = 0) -> str:
    """Run the program in *folder*; its output is returned, and its exit code is *code*."""
    done = subprocess.run([helper, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- cache ------------------------------------------------------------------------------------------------------------


def test_a_cache_comes_back_as_it_was(helper: Path, project: Path, tmp_path: Path) -> None:
    """Files, modes and links that were archived are there after extraction into an empty directory."""
    archive = tmp_path / "cache" / "group" / "project" / "key" / "cache.zip"
    said = run(helper, project, "cache-archiver", "--file", str(archive), "--timeout", "10", "--path", "out/")
    assert "out/: found 6 matching files and directories" in said
    assert "No URL provided, cache will be not uploaded to shared cache server" in said
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    run(helper, fresh, "cache-extractor", "--file", str(archive), "--timeout", "10")
    assert (fresh / "out" / "deep" / "b.log").read_text() == "b"
    assert (fresh / "out" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (fresh / "out" / "link").readlink() == Path("a.txt")


def test_no_cache_yet_is_said(helper: Path, project: Path) -> None:
    """An archive that is not there is a warning and exit code 1, by which the script says that nothing was extracted."""
    said = run(helper, project, "cache-extractor", "--file", "/nonexistent/cache.zip", code=1)
    assert "Cache file does not exist" in said


def test_an_unchanged_cache_is_not_written_again(helper: Path, project: Path, tmp_path: Path) -> None:
    """When nothing is newer than the archive it is left alone."""
    archive = tmp_path / "cache.zip"
    arguments = ("cache-archiver", "--file", str(archive), "--path", "out")
    run(helper, project, *arguments)
    before = archive.stat()
    time.sleep(0.02)
    os.utime(archive)
    assert "Archive is up to date!" in run(helper, project, *arguments)
    assert archive.stat().st_ino == before.st_ino


def test_an_archive_cannot_write_outside(helper: Path, project: Path, tmp_path: Path) -> None:
    """An entry that leads out of the working directory is refused and nothing of the archive is written."""
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("good", "x")
        made.writestr("../evil", "x")
    run(helper, project, "cache-extractor", "--file", str(archive), code=1)
    assert not (project / "good").exists() and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--path", "out/*.txt"], {"out/a.txt"}),
        (["--path", "out/**/*.log"], {"out/deep/b.log"}),
        (["--path", "out", "--exclude", "out/**/*.log", "--exclude", "out/link"], {"out/", "out/a.txt", "out/deep/", "out/run.sh"}),
        (["--path", "../secret", "--path", "out/a.txt"], {"out/a.txt"}),
        (["--path", "."], {"out/", "out/a.txt", "out/deep/", "out/deep/b.log", "out/link", "out/run.sh"}),
    ],
)  # fmt: skip
def test_patterns_choose_files(
    helper: Path, project: Path, tmp_path: Path, arguments: list[str], names: set[str]
) -> None:
    """Directories, `*`, `**` and exclusions choose files of the working directory; .git and what lies outside stay out."""
    archive = tmp_path / "cache.zip"
    run(helper, project, "cache-archiver", "--file", str(archive), *arguments)
    with zipfile.ZipFile(archive) as made:
        assert set(made.namelist()) == names


# --- artifacts --------------------------------------------------------------------------------------------------------


class _Coordinator(BaseHTTPRequestHandler):
    uploads: list[tuple[str, str, bytes]] = []
    archive = b""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _Coordinator.uploads.append((self.path, self.headers["JOB-TOKEN"], body))
        self.send_response(403 if self.headers["JOB-TOKEN"] == "wrong" else 201)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200 if _Coordinator.archive else 404)
        self.end_headers()
        self.wfile.write(_Coordinator.archive)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def coordinator() -> Iterator[str]:
    """An address that takes uploads as GitLab does."""
    _Coordinator.uploads, _Coordinator.archive = [], b""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Coordinator)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def uploaded() -> bytes:
    """The file of the last upload, out of its form."""
    body = _Coordinator.uploads[-1][2]
    boundary = body.split(b"\r\n", 1)[0]
    return body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n" + boundary, 1)[0]


def test_artifacts_go_up_and_come_down(helper: Path, project: Path, tmp_path: Path, coordinator: str) -> None:
    """An archive is posted with the job's token, its type and expiry, and unpacks elsewhere to the same files."""
    me = ("--url", coordinator, "--token", "glcbt-token-1", "--id", "7")
    said = run(
        helper, project, "artifacts-uploader", *me, "--path", "out/a.txt", "--name", "results", "--expire-in", "1 day",
        "--artifact-format", "zip", "--artifact-type", "archive",
    )  # fmt: skip
    assert 'Uploading artifacts as "archive" to coordinator... 201 Created' in said
    assert "glcbt-token-1" not in said
    path, token, _ = _Coordinator.uploads[-1]
    assert path == "/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1+day"
    assert token == "glcbt-token-1"
    _Coordinator.archive = uploaded()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert "Downloading artifacts from coordinator... ok" in run(helper, fresh, "artifacts-downloader", *me)
    assert (fresh / "out" / "a.txt").read_text() == "a"


def test_reports_go_up_as_gzip(helper: Path, project: Path, coordinator: str) -> None:
    """A report is a gzip of its files, as GitLab's parsers expect it."""
    (project / "one.xml").write_text("<a/>")
    (project / "two.xml").write_text("<b/>")
    run(
        helper, project, "artifacts-uploader", "--url", coordinator, "--token", "t", "--id", "7", "--path", "*.xml",
        "--name", "junit.xml", "--artifact-format", "gzip", "--artifact-type", "junit",
    )  # fmt: skip
    assert gzip.GzipFile(fileobj=io.BytesIO(uploaded())).read() == b"<a/><b/>"


def test_nothing_to_upload_is_no_failure(helper: Path, project: Path, coordinator: str) -> None:
    """Patterns that match nothing are a warning and an error line, but the job goes on."""
    said = run(
        helper, project, "artifacts-uploader", "--url", coordinator, "--token", "t", "--id", "7", "--path", "none/"
    )
    assert "none/: no matching files" in said and "No files to upload" in said
    assert not _Coordinator.uploads


def test_a_refused_upload_fails_the_stage(helper: Path, project: Path, coordinator: str) -> None:
    """An upload that GitLab refuses ends with an exit code, and is not tried again."""
    said = run(
        helper,
        project,
        "artifacts-uploader",
        "--url",
        coordinator,
        "--token",
        "wrong",
        "--id",
        "7",
        "--path",
        "out",
        code=1,
    )
    assert "forbidden" in said and len(_Coordinator.uploads) == 1


def test_missing_artifacts_fail_the_stage(helper: Path, project: Path, coordinator: str) -> None:
    """Artifacts of an earlier job that are gone end with an exit code."""
    said = run(helper, project, "artifacts-downloader", "--url", coordinator, "--token", "t", "--id", "7", code=1)
    assert "not found" in said


# --- services and logs ------------------------------------------------------------------------------------------------


def test_a_service_is_awaited(helper: Path, project: Path) -> None:
    """health-check ends when the port takes connections, and with an error when it never does."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        run(helper, project, "health-check", "--port", str(service.getsockname()[1]))
        port = service.getsockname()[1]
    run(helper, project, "health-check", "--port", str(port), "--timeout", "0s", code=1)


def test_a_log_is_followed_from_an_offset(helper: Path, project: Path) -> None:
    """Each line comes behind the offset of its end, from where the last reader stopped, as it is written."""
    log = project / "output.log"
    reader = subprocess.Popen([helper, "read-logs", "--path", log, "--offset", "4"], stdout=subprocess.PIPE)
    try:
        with log.open("ab", buffering=0) as out:
            out.write(b"one\ntwo\nthr")
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"8 two\n"
            out.write(b"ee\n")
            assert reader.stdout.readline() == b"14 three\n"
    finally:
        reader.kill()
        reader.wait()


def test_a_log_that_never_appears_has_its_own_exit_code(helper: Path, project: Path) -> None:
    """Exit code 100 tells the runner that there is no log file."""
    run(helper, project, "read-logs", "--path", "none.log", "--wait-file-timeout", "10ms", code=100)


def test_version_answers(helper: Path, project: Path) -> None:
    """Scripts ask for --version to find out whether the program is there."""
    assert "gitlab-runner-helper" in run(helper, project, "--version")
