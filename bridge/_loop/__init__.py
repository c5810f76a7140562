"""What runs on the loop's thread. Nothing here imports the strategies, the calls or the bridge."""
