"""The pages that people open in a browser: whole without a script, and with nothing fetched from elsewhere."""
