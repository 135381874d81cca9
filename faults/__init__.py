"""Real members under real faults, judged by what the command itself recorded. See docs/faults.md."""
