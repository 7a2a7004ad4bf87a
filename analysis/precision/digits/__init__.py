"""A task that no linear model solves, and networks of convolutions alone that do, by rounding: odd digits from even.

`data` splits scikit-learn's digits, `baselines` are what a network must be compared with, `construction` makes networks
whose stored outputs are rounded to integers by their biases, `comparing` tests predictions of the same images.
"""
