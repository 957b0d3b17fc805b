"""Do these places matter? Trains the same ranks in other layers, pair by pair, until a test decides."""
