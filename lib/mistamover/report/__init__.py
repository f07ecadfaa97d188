"""What people and programs are told: log files, alerts, and the status that a stream publishes."""
