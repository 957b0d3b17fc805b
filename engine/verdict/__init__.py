"""Do these places matter? The same ranks in other layers, trained pair by pair until the answer is known."""
