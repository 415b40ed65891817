"""Language models: pretrained or tiny, their tokens, tasks with rewards, generation, supervised warm-up."""
