"""Data in and out: episodes, relative actions, the soup of sources, LeRobot files."""
