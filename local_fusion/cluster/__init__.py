"""GPUs: hosts (Ray actors), the fleet that starts, watches and restarts them, and turns on few GPUs."""
