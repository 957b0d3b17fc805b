"""A real Chromium without a window, driven over its DevTools pipe: no driver, no port, no further package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """Path of a Chromium on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab; `requests` and `complaints` (console, exceptions, refusals) grow while it is used."""

    def __init__(self, profile: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._count, self._rest = 0, b""
        # Chromium reads commands from descriptor 3 and writes answers to 4. The pipes' own descriptors are higher, so
        # that the dup2 calls in `place` overwrite none of them.
        (read_theirs, write_ours), (read_ours, write_theirs) = (self._pipe() for _ in range(2))
        self._in, self._out = read_ours, write_ours

        def place() -> None:
            os.dup2(read_theirs, 3)
            os.dup2(write_theirs, 4)

        self._process = subprocess.Popen(
            [str(find_chromium()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._session: str | None = None
        (tab,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self._session = self.call("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        ends = os.pipe()
        high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
        for end in ends:
            os.close(end)
        return high[0], high[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; events that arrive in between are noted."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _next(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], seconds)
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("the browser does not answer")
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"][:500])

    def look(self, width: int, *, dark: bool = False, scripts: bool = True) -> None:
        """The width of the window, the colour scheme, and whether scripts run, from the next page on."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def open(self, page: Path, *, ready: str | None = "document.documentElement?.dataset.ready === 'yes'") -> None:
        """Loads a file and waits until `ready` (an expression) is true."""
        started = time.perf_counter()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while ready is not None and not self.value(ready):
            assert time.perf_counter() - started < 60, f"not ready; {self.complaints}"
            time.sleep(0.02)

    def reload(self) -> None:
        """Loads the page again, at its address as it is now."""
        self.value("window.before = true")
        self.call("Page.reload")
        end = time.perf_counter() + 60
        loaded = False
        while not loaded:
            assert time.perf_counter() < end, self.complaints
            time.sleep(0.1)
            with suppress(AssertionError):  # fails while the page is being replaced
                ready = "window.before === undefined && document.documentElement?.dataset.ready === 'yes'"
                loaded = bool(self.value(ready))

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key, down and up."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, x: float, y: float) -> None:
        """The left button at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, element: str | None = None) -> bytes:
        """PNG of an element (by id), or of the whole page."""
        box = f"document.getElementById({element!r}).getBoundingClientRect()" if element else "null"
        rect = self.value(
            f"(() => {{ const b = {box}, d = document.documentElement; return b ? "
            "[b.x + scrollX, b.y + scrollY, b.width, b.height] : [0, 0, d.scrollWidth, d.scrollHeight]; })()"
        )
        clip = dict(zip(("x", "y", "width", "height"), rect, strict=True)) | {"scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])
