"""Retrains and champions in MLflow, where MLFLOW_TRACKING_URI names a server. SQL stays the truth: MLflow is told
after a retrain has ended, so that nothing waits for it, and it is told again until it knows."""
