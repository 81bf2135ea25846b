import contextlib
import http.server
import threading
import time

import pytest

from mmext.utils import downloads
from mmext.utils.downloads import fetch


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what = self.path[1:]
        if what == 'headers':  # one byte after the other, for as long as anybody listens
            while not self.server.over.wait(0.05):
                self.wfile.write(b'H')
                self.wfile.flush()
            return
        if what == 'away':
            self.send_response(302)
            self.send_header('Location', 'file:///etc/hostname')
            self.end_headers()
            return
        self.send_response(404 if what == 'absent' else 200)
        self.end_headers()
        if what == 'small':
            self.wfile.write(b'content')
        for _ in range(10**6 if what == 'endless' else 0):
            self.wfile.write(b'x' * 65536)
        while what == 'slow' and not self.server.over.wait(0.05):
            self.wfile.write(b'x')
            self.wfile.flush()

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the other side has enough
            super().handle()

    def log_message(self, *args):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.over = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.over.set()
    server.shutdown()
    server.server_close()


def test_content(address):
    assert fetch(f'{address}/small', 7) == b'content'


@pytest.mark.parametrize(
    ('what', 'message'),
    [('small', 'more than the 6 bytes'), ('endless', 'more than the 6 bytes'), ('absent', '404'), ('away', 'file:')],
)
def test_what_is_refused(address, what, message):
    with pytest.raises(OSError, match=message):
        fetch(f'{address}/{what}', 6)


@pytest.mark.parametrize('what', ['headers', 'slow'])
def test_a_slow_server_is_left_after_the_time(address, what):
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        fetch(f'{address}/{what}', 10**6, seconds=0.5)
    assert time.monotonic() - start < downloads.SILENCE  # far from waiting for as long as it sends


def test_no_server():
    with pytest.raises(OSError, match='refused'):
        fetch('http://127.0.0.1:9/', 10)
    with pytest.raises(OSError, match='InvalidURL'):
        fetch('http://127.0.0.1:x/', 10)
