"""One run in several processes on this machine, as torchrun starts them, each forked warm."""

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.processes import Process


class Several:
    """`torchrun --nproc-per-node SIZE run.py ...`; `prepare(rank)` is called in each process first."""

    def __init__(
        self, argv: Sequence[str], output: Path, size: int = 2, prepare: Callable[[int], None] = lambda rank: None
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

        self.processes = [Process(argv, output.with_suffix(f".{rank}"), place(rank)) for rank in range(size)]

    def wait(self) -> list[int]:
        """Exit codes by rank."""
        return [process.wait() for process in self.processes]

    def said(self) -> str:
        """What all of them printed."""
        return "\n".join(process.output.read_text() for process in self.processes)
