"""What people and programs are told: log files, and the status that each process publishes."""
