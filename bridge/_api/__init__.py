"""What the package exports: Bridge, the default bridge behind the plain functions, and the decorators."""
