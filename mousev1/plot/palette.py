"""Colours that readers with any colour vision distinguish (Okabe and Ito 2008), and those of axes and marks."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

COLOURS = (VERMILION, BLUE, GREEN, ORANGE, SKY, PURPLE)
"""For curves side by side, in the order in which they are taken."""

INK, GREY, PALE = "#222222", "#9a9a9a", "#bcd4ec"
"""Text and lines; what is not in question; areas such as intervals."""
