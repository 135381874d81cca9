"""What a member costs and how fast it takes over, measured on real processes."""
