"""Alerts: finds incidents in what the service keeps on disk, and tells people by mail and programs by HTTP or AMQP."""
