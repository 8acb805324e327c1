"""Reports people look at: one HTML file, nothing loaded from anywhere, model text never more than text."""
