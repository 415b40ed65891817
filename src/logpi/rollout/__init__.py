"""Where Batches come from: `collect(policy, critic) -> Batch`."""
