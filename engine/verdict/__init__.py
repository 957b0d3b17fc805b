"""--stage verdict: trains the learned ranks and the same ranks in other layers, in pairs, until a
test decides."""
