"""The methods: each prepares the model that a training trains, and says how it is written."""
