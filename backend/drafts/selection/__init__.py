"""Selections: the waiting tasks that teach most are made what annotators are given first."""
