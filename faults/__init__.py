"""Real members under real faults, judged by what their command recorded. See docs/faults.md."""
