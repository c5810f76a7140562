"""What crosses between a caller and the loop: kinds of x, outcomes and their tracebacks, context variables."""
