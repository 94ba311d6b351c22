"""The registered model behind MLflow's scoring protocol, with metrics and limits; ``docs/serving.md`` says why so."""
