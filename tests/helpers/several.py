"""One run in several processes on this machine, as torchrun starts them, each forked warm."""

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.processes import Process


class Several:
    """`torchrun --nproc-per-node SIZE run.py ...`; `prepare(rank)` is called in each process first, and with
    `draw` off the run leaves out its report."""

    def __init__(
        self,
        argv: Sequence[str],
        output: Path,
        size: int = 2,
        prepare: Callable[[int], None] = lambda rank: None,
        *,
        draw: bool = True,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def place(rank: int) -> Callable[[], None]:
            def enter() -> None:
                found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in found.items()})
                os.environ["MASTER_ADDR"] = "127.0.0.1"
                prepare(rank)

            return enter

        outputs = [output.with_suffix(f".{rank}") for rank in range(size)]
        self.processes = [Process(argv, to, place(rank), draw=draw) for rank, to in enumerate(outputs)]

    def wait(self) -> list[int]:
        """Exit codes by rank."""
        return [process.wait() for process in self.processes]

    def said(self) -> str:
        """What all of them printed."""
        return "\n".join(process.output.read_text() for process in self.processes)
