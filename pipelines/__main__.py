"""`python -m pipelines VERB ...`, and `accelerate launch -m pipelines VERB ...`."""

from pipelines.cli import main

main()
