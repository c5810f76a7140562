"""Extensions for other programs: one of them each, and nothing of the package imports them; they are loaded by name."""
