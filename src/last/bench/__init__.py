"""Networks side by side: the grid of trainings, the scoreboard, speed."""
