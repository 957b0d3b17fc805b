"""What the program runs on: device, processes, the model hub, the terminal."""
