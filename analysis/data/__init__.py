"""What was measured, from files to tidy frames: no figures, no sentences."""
