"""The laboratory: `logpi lab` shows in a browser how policy gradients work, and the runs there are."""
