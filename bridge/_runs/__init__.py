"""One run of one loop: in a thread of ours, attached to somebody else's, or of the program itself."""
