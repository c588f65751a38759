"""The terminal face: leaderboards, comparisons, plans and progress bars."""
