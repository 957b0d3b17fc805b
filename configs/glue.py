"""The tasks of GLUE: their columns and metrics."""

# Task -> (text columns, the paper's metric first). AutoLoRA reports accuracy for MRPC and QQP, not F1.
GLUE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cola": (("sentence",), ("matthews",)),
    "sst2": (("sentence",), ("accuracy",)),
    "mrpc": (("sentence1", "sentence2"), ("accuracy",)),
    "qqp": (("question1", "question2"), ("accuracy",)),
    "mnli": (("premise", "hypothesis"), ("accuracy",)),
    "qnli": (("question", "sentence"), ("accuracy",)),
    "rte": (("sentence1", "sentence2"), ("accuracy",)),
    "wnli": (("sentence1", "sentence2"), ("accuracy",)),
    "stsb": (("sentence1", "sentence2"), ("spearman", "pearson")),
}
OF_NUMBERS = "stsb"
"""The task whose labels are numbers, not classes."""
