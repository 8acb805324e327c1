"""What can be seen of a server: log lines, counters, engines, readiness."""
