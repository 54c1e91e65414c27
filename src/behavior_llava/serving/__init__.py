"""What a trained model is used for: predictions for many media, and the demo."""
