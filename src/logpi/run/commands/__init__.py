"""One page for each command: `main(args)`. Nothing heavy is imported before a command is known."""
