"""The runs of a loop: in a thread of ours, on an attached loop or reactor, or on a loop that the program runs."""
