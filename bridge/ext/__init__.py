"""Extensions for other programs, which load them by name. No other module of the package imports them."""
