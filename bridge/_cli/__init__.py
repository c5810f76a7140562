"""What python -m bridge runs."""
