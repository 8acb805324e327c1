"""What clients leave on the server's disk, and what it keeps of its answers. No database: folders
and JSON, renamed into place."""
