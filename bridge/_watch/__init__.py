"""The watchdog, which reports calls that wait too long; statistics of calls; and the thread for log records."""
