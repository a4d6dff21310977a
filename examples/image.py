"""
An image from a service that takes jobs, here a stand-in on this machine that speaks as Black Forest Labs does.
"""

import asyncio
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from llm_master import CallEvent, LLMConfig, QueryLLM

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6364f8cff01f000401010070a2a9b20000000049454e44ae426082"
)


class StandIn(BaseHTTPRequestHandler):
    """Takes a job, is busy once, then ready."""

    looks = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"id": "job", "polling_url": f"http://{self.headers['Host']}/v1/get_result?id=job", "cost": 4})

    def do_GET(self) -> None:
        if self.path.endswith(".png"):
            self.reply("image/png", PIXEL)
            return
        StandIn.looks += 1
        sample = f"http://{self.headers['Host']}/cube.png"
        busy = {"id": "job", "status": "Pending", "progress": 0.5}
        self.answer(busy if StandIn.looks == 1 else {"id": "job", "status": "Ready", "result": {"sample": sample}})

    def answer(self, value: dict[str, object]) -> None:
        self.reply("application/json", json.dumps(value).encode())

    def reply(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def tell(event: CallEvent) -> None:
    if event.name == "progress":
        print(event.target, event.status, event.progress)


async def main(port: int) -> None:
    config = LLMConfig(bfl_api_key="no-key", base_urls={"bfl": f"http://127.0.0.1:{port}/v1"})
    async with QueryLLM(config) as llm:
        llm.on_event(tell)
        response = await llm.query("flux-pro-1.1", "a red cube", size="512x512", timeout=30)
    with tempfile.TemporaryDirectory() as folder:
        for path in await response.save_async(folder, stem="cube"):
            print(path.name, path.stat().st_size, "bytes, USD", response.cost)


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
thread = threading.Thread(target=server.serve_forever)
thread.start()
try:
    asyncio.run(main(server.server_port))
finally:
    server.shutdown()
    thread.join()
    server.server_close()
