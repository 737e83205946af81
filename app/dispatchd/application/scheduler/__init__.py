"""The scheduler: what must happen although nobody asks. One leader a region; two at once are harmless."""
