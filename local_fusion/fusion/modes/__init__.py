"""One file per mode: a coroutine that takes the session and gives the outcome; `fuse` holds the table."""
