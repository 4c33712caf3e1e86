"""What others may try at the page's server, by HTTP without a browser."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import time
import urllib.parse
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.web.conftest import get, serving

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")

SECRET = "nobody may read this"


def post(server, path, content, **headers):
    """Status and content."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def upload(server, content, name="song.wav"):
    """Status, and the path that the server gives the file."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    )
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, answer = post(server, "/gradio_api/upload", body, **kind)
    return status, json.loads(answer)[0] if status == 200 else answer


def submit(server, path, session="a", name="song.wav", cookie=None):
    """Have a file separated, as the page asks for it; what the event says at its end."""
    # The number of the one event with inputs; where a password is asked for, there is no knowing it.
    events = json.loads(get(f"{server.url}/config")[1]).get("dependencies", [{"id": 0, "inputs": [1]}])
    (event,) = [x for x in events if x["inputs"]]
    file = {
        "path": str(path) if isinstance(path, Path) else path,
        "orig_name": name,
        "meta": {"_type": "gradio.FileData"},
    }
    data = [[file], None, "tiny", "wav 16 bit", "", ""]
    body = json.dumps({"data": data, "fn_index": event["id"], "session_hash": session})
    headers = {"Content-Type": "application/json"} | ({"Cookie": f"vocalsep={cookie}"} if cookie else {})
    status, answer = post(server, "/gradio_api/queue/join", body, **headers)
    if status != 200:
        return {"success": False, "output": answer.decode()}
    stream = urllib.parse.urlencode({"session_hash": session})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/gradio_api/queue/data?{stream}")
    for line in connection.getresponse():
        if line.startswith(b"data:") and json.loads(line[5:])["msg"] == "process_completed":
            connection.close()
            return json.loads(line[5:])
    raise AssertionError("no end")


def wav(tmp_path, seconds=0.5):
    soundfile.write(tmp_path / "x.wav", np.full(int(8000 * seconds), 0.1), 8000)
    return (tmp_path / "x.wav").read_bytes()


def finished(server, key):
    """The state of a song, at its end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = json.loads(get(f"{server.url}/songs/{key}/state")[1])
        if state["state"] not in ("waiting", "working"):
            return state
        time.sleep(0.05)
    raise AssertionError(state)


def key_of(answer):
    """The key of the song that a submission made."""
    return answer["output"]["data"][2].split('data-keys="')[1].split('"')[0].split()[0]


def test_no_file_of_the_server_can_be_read(server, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_text(SECRET)
    (folder,) = server.temporary.glob("vocalsep-serve-*")
    up = "../" * 12
    for path in (
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={urllib.parse.quote(str(secret), safe='')}",
        f"/gradio_api/file={folder}/uploads/{up}{secret}",
        f"/gradio_api/file={folder}/lock",
        f"/gradio_api/file/{secret}",
        f"/file={secret}",
        f"/static/{up}{secret}",
        f"/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f{secret}",
        f"/songs/{up}{secret}",
        f"/songs/..%2f..%2f{secret}/state",
        f"/songs/x/vocals%2f..%2f..{secret}/file",
        f"/gradio_api/proxy={server.url}/config",
        f"/gradio_api/file={server.url}/config",
        "/gradio_api/file=http://169.254.169.254/latest/meta-data",
        "/monitoring",
        "/gradio_api/openapi.json",
        "/gradio_api/runs",
        "/gradio_api/file=" + "a" * 5000,
        "/gradio_api/file=%00",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in (400, 403, 404), (path, answer.status)
        assert SECRET.encode() not in content
        connection.close()


def test_no_file_of_the_server_can_be_separated(server, tmp_path):
    song = server.temporary / "private.wav"
    song.write_bytes(wav(tmp_path))
    (folder,) = server.temporary.glob("vocalsep-serve-*")
    assert (folder / "uploads" / ".." / ".." / "private.wav").exists()
    elsewhere = f"http://127.0.0.1:{server.port}/songs/x", "https://example.org/song.wav", 5, None, ["a"]
    for path in (song, f"{folder}/uploads/../../private.wav", f"{folder}/lock", *elsewhere):
        answer = submit(server, path, session=uuid.uuid4().hex)
        assert answer == {"success": False, "output": "Not Found"}
    song.unlink()
    came_in = submit(server, upload(server, wav(tmp_path))[1], session=uuid.uuid4().hex)
    assert "vocalsep-songs" in json.dumps(came_in)
    for body in (b"", b"{", b"[" * 100_000, b'{"data": [[{"path": "x"}]]}' + b" " * 2**21):
        assert post(server, "/gradio_api/queue/join", body)[0] == 404


@pytest.mark.parametrize(
    "name", ["../../../../etc/evil.wav", "/etc/evil.wav", "a/../b.wav", "\\..\\x.wav", "." * 300]
)
def test_names_lead_nowhere(server, tmp_path, name):
    status, path = upload(server, wav(tmp_path), name)
    (folder,) = server.temporary.glob("vocalsep-serve-*")
    assert status in (200, 400, 500)
    if status == 200:
        assert Path(path).resolve().is_relative_to(folder / "uploads")
    assert {p.name for p in server.temporary.iterdir()} == {folder.name}


def test_several_files_may_come_at_once_each_as_large_as_one_may_be(server):
    boundary = uuid.uuid4().hex
    part = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'.encode()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    for size, status in ((3_000_000, 200), (4_500_000, 413)):
        content = b"".join(part + bytes([n]) * size + b"\r\n" for n in range(3))
        assert post(server, "/gradio_api/upload", content + f"--{boundary}--".encode(), **kind)[0] == status


def test_a_song_is_given_to_nobody_who_does_not_know_its_key(server, tmp_path):
    _, path = upload(server, wav(tmp_path))
    key = key_of(submit(server, path, session="mine"))
    state = finished(server, key)
    assert state["state"] == "done", state
    assert get(f"{server.url}/songs/{key}/vocals/file")[1][:4] == b"RIFF"
    assert key not in json.dumps(submit(server, upload(server, wav(tmp_path, 0.7))[1], "mine", cookie="me"))
    for other in (key[:-1], key + "a", key.swapcase(), "", ".", "..", "*", "songs"):
        assert get(f"{server.url}/songs/{other}/vocals/file")[0] == 404
    for what in ("mixture/file", "song/file", "../lock/file", "vocals/samples?start=-1&count=5"):
        assert get(f"{server.url}/songs/{key}/{what}")[0] in (400, 404)
    for query in (
        "start=0",
        "start=0&count=0",
        "start=0&count=99999999999",
        "start=x&count=1",
        "start=9e9&count=1",
    ):
        assert get(f"{server.url}/songs/{key}/vocals/samples?{query}")[0] == 400
    other = submit(server, upload(server, wav(tmp_path, 0.6))[1], session="theirs")
    assert key not in json.dumps(other)
    assert post(server, f"/songs/{key}/remove", b"")[0] == 200
    assert get(f"{server.url}/songs/{key}/state")[0] == 404


def test_other_sites_and_other_names_are_refused(server):
    assert get(server.url, Host="evil.example")[0] == 421
    assert get(server.url, Host=f"localhost:{server.port}")[0] == 200
    own = f"http://127.0.0.1:{server.port}"
    join = {"Content-Type": "application/json"}
    assert post(server, "/gradio_api/queue/join", b"{}", Origin="http://evil.example", **join)[0] == 403
    assert post(server, "/gradio_api/queue/join", b"{}", Origin=own, **join)[0] not in (403, 404)


def test_what_is_too_large_ends_early(server, tmp_path):
    (folder,) = server.temporary.glob("vocalsep-serve-*")
    before = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert upload(server, b"x" * 5_000_000)[0] == 413
    # One without an end, which does not say how long it is.
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    with contextlib.suppress(OSError):  # it may be cut off
        connection.send(b"%x\r\n%s\r\n" % (len(head), head))
        for _ in range(1000):
            connection.send(b"%x\r\n%s\r\n" % (2**16, b"x" * 2**16))
    connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        after = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        if after <= before + 4_100_000:
            break
        time.sleep(0.1)
    assert after <= before + 4_100_000
    assert get(server.url)[0] == 200


def test_a_hundred_uploads_at_once_stay_within_the_disk(run, tmp_path):
    most = 20_000_000
    flags = ["--max-size", "4", "--max-disk", str(most / 1e9)]
    content = wav(tmp_path) + b"x" * 3_000_000
    with serving(run, tmp_path, *flags) as server:

        def bring(number):
            try:
                return upload(server, content + str(number).encode())[0]
            except OSError:  # refused while it was being sent
                return 0

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            statuses = list(pool.map(bring, range(100)))
        (folder,) = tmp_path.glob("vocalsep-serve-*")
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= most
        assert 200 in statuses
        assert set(statuses) <= {0, 200, 413, 500, 503, 507}
        assert get(server.url)[0] == 200
    assert list(tmp_path.glob("vocalsep-serve-*")) == []


def test_a_killed_server_leaves_nothing_to_the_next(run, tmp_path):
    with serving(run, tmp_path, "--shifts", "40", "--overlap", "0.75") as server:
        _, path = upload(server, wav(tmp_path, 100.0))
        key = key_of(submit(server, path))
        states = (json.loads(get(f"{server.url}/songs/{key}/state")[1])["state"] for _ in range(600))
        for state in states:
            if state == "working":
                break
            assert state == "waiting"
            time.sleep(0.05)
        assert state == "working"
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    (left,) = tmp_path.glob("vocalsep-serve-*")
    with serving(run, tmp_path) as server:
        assert not left.exists()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert list(tmp_path.glob("vocalsep-serve-*")) == []


def test_a_password_is_asked_for(run, tmp_path):
    with serving(run, tmp_path, environment={"VOCALSEP_AUTH": "me:secret"}) as server:
        assert get(f"{server.url}/config")[0] == 401
        assert upload(server, wav(tmp_path))[0] == 401
        assert submit(server, "x") == {"success": False, "output": "Not Found"}
        for path in ("/gradio_api/queue/data?session_hash=a", "/gradio_api/upload_progress?upload_id=a"):
            assert get(server.url + path)[0] == 401
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert post(server, "/login", b"username=me&password=wrong", **form)[0] == 400
        assert post(server, "/login", b"username=me&password=secret", **form)[0] == 200
