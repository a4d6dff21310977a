"""
``llm-master image`` as a user runs it: names of files on stdout, progress on stderr, and no file overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.behaviours import status
from support.command import Done, run
from support.fault_server import FaultServer
from support.pictures import KEY, PNG, PNG64

Image = Callable[..., Done]


@pytest.fixture
def image(fault_server: FaultServer, tmp_path: Path) -> Image:
    """``llm-master image`` in an empty folder, with the fault server for every service."""
    env = {
        "OPENAI_BASE_URL": f"{fault_server.url}/openai/v1",
        "OPENAI_API_KEY": KEY,
        "BFL_BASE_URL": f"{fault_server.url}/bfl/v1",
        "BFL_API_KEY": KEY,
    }

    def drawn(*arguments: str, **more: str) -> Done:
        return run("image", *arguments, folder=tmp_path, env=env | more)

    return drawn


def draws(server: FaultServer, count: int = 1) -> None:
    server.route("/openai/v1/images", [status(200, {"created": 1, "data": [{"b64_json": PNG64}] * count})])


def test_a_job_shows_its_progress_and_its_image_is_downloaded(
    image: Image, fault_server: FaultServer, tmp_path: Path
) -> None:
    at = f"{fault_server.url}/bfl/job"
    fault_server.route("/bfl/v1/flux-pro-1.1", [status(200, {"id": "j", "polling_url": f"{at}/status", "cost": 4})])
    ready = {"id": "j", "status": "Ready", "result": {"sample": f"{at}/out.png"}}
    fault_server.route("/bfl/job/status", [status(200, {"status": "Pending", "progress": 0.25}), status(200, ready)])
    fault_server.route("/bfl/job/out.png", [status(200, PNG, content_type="image/png")])
    done = image("a red cube", "-m", "flux-pro-1.1", "-o", "out.png", "--size", "512x512")
    assert (done.code, done.out) == (0, "out.png\n")
    assert (tmp_path / "out.png").read_bytes() == PNG
    lines = done.err.splitlines()
    assert lines[:3] == ["flux-pro-1.1: asked", "flux-pro-1.1: Pending 25%", "flux-pro-1.1: Ready"]
    assert lines[3].startswith("bfl/flux-pro-1.1 | ")
    assert lines[3].endswith("$0.04")
    assert fault_server.requests[0].json == {"prompt": "a red cube", "width": 512, "height": 512}


def test_several_images_get_numbers(image: Image, fault_server: FaultServer, tmp_path: Path) -> None:
    draws(fault_server, 3)
    done = image("a red cube", "-m", "gpt-image-2", "-o", "cube.png", "-n", "3", "-p", "quality=low", "-p", "x=[1]")
    assert (done.code, done.out) == (0, "cube-1.png\ncube-2.png\ncube-3.png\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube-1.png", "cube-2.png", "cube-3.png"]
    sent = {"model": "gpt-image-2", "prompt": "a red cube", "quality": "low", "x": [1], "n": 3}
    assert fault_server.requests[0].json == sent


@pytest.mark.parametrize(("count", "taken"), [("1", "out.png"), ("2", "out-2.png")])
def test_no_file_is_overwritten_and_nothing_paid_for(
    count: str, taken: str, image: Image, fault_server: FaultServer, tmp_path: Path
) -> None:
    draws(fault_server, int(count))
    (tmp_path / taken).write_bytes(b"mine")
    done = image("x", "-m", "gpt-image-2", "-o", "out.png", "-n", count)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: {taken} exists; --force overwrites it, or give another name with -o\n"
    assert (tmp_path / taken).read_bytes() == b"mine"
    assert fault_server.requests == []
    assert image("x", "-m", "gpt-image-2", "-o", "out.png", "-n", count, "--force").code == 0
    assert (tmp_path / taken).read_bytes() == PNG


def test_a_picture_is_changed(image: Image, fault_server: FaultServer, tmp_path: Path) -> None:
    draws(fault_server)
    (tmp_path / "in.png").write_bytes(PNG)
    assert image("make it blue", "-m", "gpt-image-2", "--image", "in.png").out == "image.png\n"
    assert fault_server.requests[0].path == "/openai/v1/images/edits"
    assert PNG in fault_server.requests[0].body


def test_a_folder_gets_the_usual_name(image: Image, fault_server: FaultServer, tmp_path: Path) -> None:
    draws(fault_server)
    (tmp_path / "art").mkdir()
    assert image("x", "-m", "gpt-image-2", "-o", "art").out == "art/image.png\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", "-m", "flux-pro-1.1", "-n", "2"), "does not take n"),
        ((" ", "-m", "gpt-image-2"), "the prompt is empty"),
        (("x", "-m", "gpt-image-2", "-p", "quality"), "write NAME=VALUE"),
        (("x", "-m", "gpt-image-2", "-o", "no/such/out.png"), "there is no folder 'no/such'"),
        (("x", "-m", "gpt-4o-mini"), "answered with text and no image"),
        (("x", "-m", "no-such-model"), "Unsupported model: no-such-model"),
        (("x",), "--model"),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...], said: str, image: Image, fault_server: FaultServer, tmp_path: Path
) -> None:
    done = image(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_an_error_and_leaves_no_file(image: Image, fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.default = status(400, {"error": {"message": "not that", "code": "moderation_blocked"}})
    done = image("x", "-m", "gpt-image-2")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: openai refused 'gpt-image-2' (HTTP 400): not that")
    assert list(tmp_path.iterdir()) == []
