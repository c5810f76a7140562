"""The watchdog, which reports calls that wait too long, and the statistics of calls."""
