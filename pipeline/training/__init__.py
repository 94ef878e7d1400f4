"""Training a Keras model: how samples are fed, and what is trained with where the model does not say."""
