"""The log loss of a finished training on all its held-out rows, by which the cells of a study are compared."""

from autolora.configs.errors import UserError
from autolora.engine.disk.tables import read_parquet
from autolora.engine.run.folder import RunFolder


def held_out_loss(folder: RunFolder) -> float:
    """The mean loss, nats per label, of the evaluation rows and the unused training rows (`task.unused_rows`), at a
    temperature that was fitted on other rows.

    Raises UserError when the training did not write the losses of its rows, or their file is damaged.
    """
    path = folder.row_losses
    if not path.exists():
        raise UserError(f"{path}: does not exist; --retrain.row_losses true, given to the training, writes it")
    table = read_parquet(path, f"remove {folder.root} to train it again", numbers=("loss", "weight"))
    return float(table["loss"].sum() / table["weight"].sum())
