"""The ML backend as a web application: its services, its endpoints, its server."""
