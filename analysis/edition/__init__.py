"""Editions: what was measured in one study, with its page, made to be kept, checked and cited."""
