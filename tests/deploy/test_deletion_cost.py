"""The side-car that writes a pod's deletion cost, with its real shell script against a worker's page and an API server of our own."""

import http.server
import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

from support import CHART

SCRIPT = CHART / "files/deletion-cost.sh"
PAGE = """# TYPE overshot_worker_slots gauge
overshot_worker_slots{pool="chat"} 8
# TYPE overshot_worker_slots_busy gauge
overshot_worker_slots_busy{pool="chat"} %d
overshot_worker_slots_busy{pool="asr"} 1
"""


class Server(http.server.BaseHTTPRequestHandler):
    """The worker's metrics, and the API server's PATCH of a pod."""

    busy = 2
    patches: list[tuple[str, str, str, dict]] = []

    def do_GET(self):
        self._answer(PAGE % Server.busy)

    def do_PATCH(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Server.patches.append((self.path, self.headers["Authorization"], self.headers["Content-Type"], json.loads(body)))
        self._answer("{}")

    def _answer(self, text: str):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@unittest.skipUnless(shutil.which("curl") and shutil.which("openssl"), "no curl or no openssl")
class DeletionCost(unittest.TestCase):
    def setUp(self):
        Server.busy, Server.patches = 2, []
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "token").write_text("secret")
        certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                       "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.crt"]
        subprocess.run(certificate, cwd=self.folder, check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.folder / "ca.crt", self.folder / "key.pem")
        self.worker, self.kubernetes = self.serve(), self.serve(tls)

    def serve(self, tls: ssl.SSLContext | None = None) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"

    def patched(self, count: int) -> list:
        deadline = time.monotonic() + 20
        while len(Server.patches) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return Server.patches

    def test_the_cost_is_the_number_of_running_jobs_and_written_when_it_changes(self):
        env = {"PATH": "/usr/bin:/bin", "METRICS": f"{self.worker}/metrics", "KUBERNETES": self.kubernetes, "POD": "p", "NAMESPACE": "n",
               "SECONDS_BETWEEN": "0.1", "ACCOUNT": str(self.folder), "no_proxy": "*"}
        side_car = subprocess.Popen(["sh", "-c", SCRIPT.read_text()], env=env)
        self.addCleanup(side_car.wait)
        self.addCleanup(side_car.kill)
        path, authorization, kind, body = self.patched(1)[0]
        self.assertEqual((path, authorization), ("/api/v1/namespaces/n/pods/p", "Bearer secret"))
        self.assertEqual(kind, "application/merge-patch+json")
        annotation = "controller.kubernetes.io/pod-deletion-cost"
        self.assertEqual(body, {"metadata": {"annotations": {annotation: "3"}}})
        time.sleep(0.5)  # several looks, and nothing has changed
        self.assertEqual(len(Server.patches), 1)
        Server.busy = 7
        self.assertEqual(self.patched(2)[1][3]["metadata"]["annotations"][annotation], "8")
        side_car.terminate()
        self.assertEqual(side_car.wait(timeout=10), 0)


if __name__ == "__main__":
    unittest.main()
