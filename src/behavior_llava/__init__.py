"""Behaviour data in, trained model out, next to the controls that prove what behaviour was worth."""
