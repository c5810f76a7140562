"""The pytest plugin at work: loops by scope, runners of other plugins, tests and fixtures that wait, leftovers."""
