"""The parent process: loads the settings, starts and supervises the streams, reloads and stops them."""
