"""What drafts are worth: how annotators change them, what time they save, and what further labelling would teach."""
