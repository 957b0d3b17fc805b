"""One run before anything is trained: its context, its log, and what may stop it."""
