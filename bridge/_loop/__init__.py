"""The event loop of a bridge: its tasks, its stacks and its worker threads. Imports no strategy, call or bridge."""
