"""Two measurements of the same samples: their difference with its interval, whatever is measured."""

CONFIDENCE = 0.95

TANGO = "Tango's score interval for paired proportions (Statistics in Medicine 17, 1998), 95 %"
BOOTSTRAP = "paired bootstrap over the samples, BCa (Efron, JASA 82, 1987), 95 %"
