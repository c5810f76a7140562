"""One call: block_on, submit, and how their callers wait."""
