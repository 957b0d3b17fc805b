"""AutoLoRA on Betty: the importable name of configs/, problems/ and engine/, which are symlinked here."""
