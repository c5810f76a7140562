"""What crosses between a caller and the loop: kinds of x, numbers, outcomes and their tracebacks, context variables."""
